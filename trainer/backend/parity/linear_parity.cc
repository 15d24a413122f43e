// LinearGroupForward and LinearGroupBackward against the f64 reference.
//
// Tolerances. A sum of K terms in f32 is off by at most K * 2^-24 of the sum of the terms'
// magnitudes; rounding errors being random, that is generous enough to be taken of the largest
// result instead. In bf16 the result is rounded (relative 2^-8), and so are hidden, dhidden and
// dropped inputs on the way (one 2^-8 each of the largest, in three places at most; 4 with margin).
// Over a base in fp8 the adapter's part of y and of dx is rounded before it is added (one more
// 2^-8), and the scales' product once in f32; codes and scales are the reference's, bit for bit.
// Gradients of adapters may cancel over T rows: their terms are of size 2 at most (hidden and dy
// have deviation 1, scale is at most 2), times what dhidden gains over N, each off by two
// roundings.

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/backend/parity/backends.h"
#include "trainer/backend/parity/group_case.h"

namespace deltaworks::trainer {
namespace {

class LinearParityTest : public ::testing::TestWithParam<TestedBackend> {
 protected:
  void ExpectParity(const GroupSpec& spec, ProductPath path, bool backward) {
    ExpectParityOn(*GetParam().make(/*threads=*/2), spec, path, backward);
  }
  void ExpectParityOn(Backend& backend, const GroupSpec& spec, ProductPath path, bool backward) {
    const DType type = backend.compute_type();
    GroupCase group(backend, GetParam().fp8_base, spec, /*seed=*/spec.k * 31 + spec.rows());
    const double u = RoundOff(type);
    const auto tolerance = [&](int64_t terms) { return Tolerance{u, terms * 0x1p-24 + 4 * u}; };
    group.Forward(path);
    for (const Twin& y : group.y) ExpectClose(y, tolerance(spec.k + spec.rank_max()), "y");
    ExpectHidden(group, group.hidden, spec, tolerance(spec.k), "hidden");
    if (!backward) return;
    group.Backward();
    int64_t n_sum = 0;
    for (const int64_t n : spec.n) n_sum += n;
    ExpectClose(group.dx, tolerance(n_sum + spec.rank_max()), "dx");
    ExpectHidden(group, group.dhidden, spec, tolerance(n_sum), "dhidden");
    for (const auto& adapter : group.adapters) {
      Tolerance of_a = tolerance(spec.rows() + n_sum);
      of_a.absolute = 4 * u * std::sqrt(spec.rows() * n_sum);
      ExpectClose(adapter->da, of_a, "da");
      Tolerance of_b = tolerance(spec.rows() + spec.k);
      of_b.absolute = 4 * u * std::sqrt(spec.rows());
      ExpectClose(adapter->db, of_b, "db");
    }
  }

  // The columns that a segment uses; the others are nobody's.
  static void ExpectHidden(const GroupCase& group, const Twin& hidden, const GroupSpec& spec,
                           const Tolerance& tolerance, const std::string& name) {
    if (hidden.test.data == nullptr) return;
    const int64_t width = hidden.test.dim(1);
    double largest = 0;
    for (int64_t i = 0; i < hidden.test.elements(); ++i) {
      largest = std::max(largest, std::abs(hidden.reference.as<double>()[i]));
    }
    for (size_t s = 0; s < spec.segments.size(); ++s) {
      const Segment& segment = group.segments[s];
      for (int64_t t = segment.row_begin; t < segment.row_end; ++t) {
        for (int64_t j = 0; j < segment.hidden_width(); ++j) {
          const double want = hidden.reference.as<double>()[t * width + j];
          ASSERT_NEAR(hidden.At(t * width + j), want,
                      tolerance.relative * std::abs(want) + tolerance.of_largest * largest)
              << name << " row " << t << " column " << j;
        }
      }
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, LinearParityTest, AllBackends(), BackendName);

TEST_P(LinearParityTest, OneAdapterAtEveryOddNumberOfRows) {
  for (const int64_t rows : {1, 2, 31, 33, 127, 128, 129, 300}) {
    SCOPED_TRACE(rows);
    ExpectParity({64, {33}, {{rows, {8}}}}, ProductPath::kBatch, true);
  }
}

TEST_P(LinearParityTest, OddShapesAndRanks) {
  for (const int64_t k : {16, 33, 64}) {
    for (const int64_t n : {1, 16, 33, 64}) {
      for (const int64_t rank : {1, 3, 8, 33}) {
        SCOPED_TRACE(ShapeText({k, n, rank}));
        ExpectParity({k, {n}, {{33, {rank}}}}, ProductPath::kBatch, true);
        ExpectParity({k, {n}, {{5, {rank}}}}, ProductPath::kDecode, false);
      }
    }
  }
}

TEST_P(LinearParityTest, PanelsOfLargeLinears) {
  ExpectParity({576, {576}, {{40, {8}}}}, ProductPath::kBatch, true);
  ExpectParity({576, {1536}, {{31, {3}}}}, ProductPath::kBatch, true);
  ExpectParity({1536, {300}, {{31, {8}}}}, ProductPath::kBatch, true);
  ExpectParity({1536, {300}, {{7, {33}}}}, ProductPath::kDecode, false);
}

// Adapters that need several panels, and so does what several of a group are together.
TEST_P(LinearParityTest, RanksAndHiddenWiderThanAPanel) {
  for (const int64_t rank : {64, 65, 129}) {
    SCOPED_TRACE(rank);
    ExpectParity({77, {131}, {{1, {rank}}}}, ProductPath::kBatch, true);
    ExpectParity({77, {131}, {{35, {rank}}, {2, {5}}}}, ProductPath::kBatch, true);
    ExpectParity({77, {131}, {{5, {rank}}}}, ProductPath::kDecode, false);
  }
  const GroupSpec together = {
      33, {65, 7, 64}, {{40, {33, 31, 67}}, {1, {1, 0, 130}, 0.2f}, {5, {63, 1, 1}}}};
  ExpectParity(together, ProductPath::kBatch, true);
}

// Sums over tokens of several tiles, each with a remainder, and a segment of one token between.
TEST_P(LinearParityTest, SegmentsLongerThanATileOfTokens) {
  ExpectParity({35, {67}, {{1025, {3}}, {1, {2}}, {2100, {5}, 0.1f}}}, ProductPath::kBatch, true);
  ExpectParity({35, {67, 9}, {{1024, {70, 3}}, {1500, {0, 1}, 0.3f, 9}}}, ProductPath::kBatch,
               true);
}

TEST_P(LinearParityTest, InputsAndOutputsDeeperThanARunOfProducts) {
  for (const float dropout : {0.0f, 0.2f}) {
    SCOPED_TRACE(dropout);
    ExpectParity({4099, {35}, {{5, {3}, dropout}}}, ProductPath::kBatch, true);
    ExpectParity({35, {4099}, {{5, {3}, dropout}}}, ProductPath::kBatch, true);
  }
  ExpectParity({8201, {65}, {{3, {5}}}}, ProductPath::kBatch, true);
  ExpectParity({65, {4097, 8201}, {{3, {5, 7}}}}, ProductPath::kBatch, true);
  ExpectParity({4099, {35}, {{2, {3}}}}, ProductPath::kDecode, false);
}

TEST_P(LinearParityTest, MoreLinearsInAGroupThanARunHasFactors) {
  const GroupSpec spec = {
      33,
      {5, 1, 17, 3, 64, 65, 2, 9, 33, 7},
      {{20, {1, 2, 3, 0, 5, 0, 7, 8, 0, 33}}, {7, {0, 0, 3, 0, 0, 0, 0, 0, 9, 1}}}};
  ExpectParity(spec, ProductPath::kBatch, true);
}

TEST_P(LinearParityTest, GroupsOfThreeWithSegmentsThatAdaptDifferentLinears) {
  const GroupSpec spec = {64,
                          {64, 48, 33},
                          {{70, {8, 0, 3}},
                           {90, {0, 0, 0}},
                           {33, {33, 1, 8}, 0, /*gap=*/9},
                           {0, {8, 8, 8}},
                           {98, {0, 16, 0}}}};
  ExpectParity(spec, ProductPath::kBatch, true);
  const GroupSpec decode = {
      64, {64, 48, 33}, {{3, {8, 0, 3}}, {2, {0, 0, 0}}, {4, {0, 5, 0}, 0, 2}}};
  ExpectParity(decode, ProductPath::kDecode, false);
}

TEST_P(LinearParityTest, Dropout) {
  const GroupSpec spec = {
      77, {64, 33}, {{150, {8, 3}, 0.1f, 5}, {33, {0, 4}, 0.5f}, {40, {8, 8}, 0}}};
  ExpectParity(spec, ProductPath::kBatch, true);
  ExpectParity({77, {33}, {{5, {3}, 0.3f}}}, ProductPath::kDecode, false);
}

TEST_P(LinearParityTest, NoAdaptersAtAll) {
  ExpectParity({64, {33, 64}, {{129, {0, 0}}}}, ProductPath::kBatch, true);
  ExpectParity({64, {33, 64}, {{3, {0, 0}}}}, ProductPath::kDecode, false);
}

TEST_P(LinearParityTest, OneLinearWithoutAdapters) {
  ExpectParity({64, {64}, {{33, {0}}}}, ProductPath::kBatch, true);
  ExpectParity({66, {71}, {{33, {0}}}}, ProductPath::kBatch, true);
}

TEST_P(LinearParityTest, WhatOperationsBeforeLeftBehindIsNotRead) {
  const GroupSpec specs[] = {{64, {64}, {{33, {0}}}},
                             {64, {64, 32}, {{33, {0, 0}}}},
                             {64, {64}, {{33, {8}}}},
                             {66, {71, 33}, {{20, {3, 0}}, {7, {0, 9}, 0.2f}}},
                             {33, {65}, {{9, {300}}}}};
  for (const GroupSpec& spec : specs) {
    SCOPED_TRACE(ShapeText({spec.k, spec.n[0], spec.segments[0].ranks[0]}));
    auto backend = GetParam().make(2);
    GroupCase sick(*backend, GetParam().fp8_base, {130, {150, 70}, {{64, {33, 8}}}}, /*seed=*/1);
    const auto spoil = [](Twin& twin) {
      for (int64_t i = 0; i < twin.test.elements(); ++i) twin.Set(i, std::nan(""));
    };
    spoil(sick.x);
    for (Twin& dy : sick.dy) spoil(dy);
    for (const auto& adapter : sick.adapters) spoil(adapter->a), spoil(adapter->b);
    sick.Forward(ProductPath::kDecode);
    sick.Forward(ProductPath::kBatch);
    sick.Backward();
    ExpectParityOn(*backend, spec, ProductPath::kDecode, false);
    ExpectParityOn(*backend, spec, ProductPath::kBatch, true);
  }
}

TEST_P(LinearParityTest, TheLowestLayerNeedsNoInputGradient) {
  auto backend = GetParam().make(2);
  GroupCase group(*backend, GetParam().fp8_base, {64, {33}, {{129, {8}}}}, 5);
  group.Forward(ProductPath::kBatch);
  group.Backward(/*want_dx=*/false);
  const double u = RoundOff(backend->compute_type());
  ExpectClose(group.adapters[0]->da, {u, 200 * 0x1p-24 + 4 * u}, "da");
  ExpectClose(group.adapters[0]->db, {u, 200 * 0x1p-24 + 4 * u}, "db");
}

TEST_P(LinearParityTest, NoRowsAtAll) {
  auto backend = GetParam().make(2);
  GroupCase group(*backend, GetParam().fp8_base, {64, {33}, {{0, {8}}}}, 5);
  const std::string before = group.adapters[0]->da.Bytes();
  group.Forward(ProductPath::kBatch);
  group.Forward(ProductPath::kDecode);
  group.Backward();
  EXPECT_EQ(group.adapters[0]->da.Bytes(), before);
}

}  // namespace
}  // namespace deltaworks::trainer

// Sums of more and deeper factors than one Run of Products takes, against plain f64 sums; and cuts
// of columns and rows that miss nothing.

#include "trainer/backend/cpu/panel_sum.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/backend/cpu/kernels/tested_kernels.h"

namespace deltaworks::trainer {
namespace {

struct Values {
  Values(DType type, int64_t rows, int64_t columns, std::mt19937_64& random)
      : bytes(rows * columns * SizeOf(type), '\0'), view(bytes.data(), type, {rows, columns}) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < rows * columns; ++i) {
      const float value = normal(random);
      const BFloat16 rounded(value);
      const void* const from = type == DType::kBF16 ? static_cast<const void*>(&rounded) : &value;
      std::memcpy(&bytes[i * SizeOf(type)], from, SizeOf(type));
    }
  }
  double At(int64_t i, int64_t j) const {
    const int64_t index = i * view.dim(1) + j;
    return view.dtype == DType::kBF16 ? static_cast<float>(view.as<const BFloat16>()[index])
                                      : view.as<const float>()[index];
  }

  std::string bytes;
  ConstTensorView view;
};

struct Pair {
  Pair(DType type, int64_t rows, int64_t factor_depth, int64_t columns, bool is_transposed,
       std::mt19937_64& random)
      : depth(factor_depth),
        transposed(is_transposed),
        a(type, rows, factor_depth + 1, random),
        b(type, is_transposed ? columns : factor_depth, is_transposed ? factor_depth : columns,
          random) {}

  int64_t depth;
  bool transposed;
  Values a, b;  // The first column of a is not used.
};

class PanelSumTest : public ::testing::TestWithParam<std::tuple<DType, const KernelSet*>> {
 protected:
  static constexpr int64_t kRows = 15;
  static constexpr int64_t kColumns = 70;

  std::vector<Pair> Pairs(const std::vector<int64_t>& depths) {
    std::vector<Pair> pairs;
    pairs.reserve(depths.size());
    for (const int64_t depth : depths) {
      pairs.emplace_back(type(), kRows, depth, kColumns, pairs.size() % 2 == 0, random_);
    }
    return pairs;
  }

  std::vector<PanelFactor> Factors(const std::vector<Pair>& pairs, const ColumnRange& columns) {
    std::vector<PanelFactor> factors;
    for (const Pair& pair : pairs) {
      AppendFactors(products_, pair.a.view, 0, 1,
                    {pair.b.view.data, pair.b.view.dim(1), pair.transposed}, pair.depth, columns,
                    scratch_, factors);
    }
    return factors;
  }

  // Rows from `row` on, all columns, panel by panel.
  std::vector<float> Sum(const std::vector<Pair>& pairs, int64_t row, const float* initial) {
    std::vector<float> sums((kRows - row) * kColumns);
    for (const ColumnRange& columns : PanelsOf(kColumns)) {
      RunSum(products_, 0, AtRow(Factors(pairs, columns), row, SizeOf(type())),
             {.rows = kRows - row,
              .columns = columns.width,
              .initial = initial == nullptr ? nullptr : initial + columns.begin,
              .initial_row = kColumns,
              .sums = sums.data() + columns.begin,
              .out_row = kColumns},
             scratch_);
    }
    return sums;
  }

  void ExpectPlainSum(const std::vector<Pair>& pairs, const std::vector<float>& initial) {
    const std::vector<float> got = Sum(pairs, 0, initial.empty() ? nullptr : initial.data());
    for (int64_t i = 0; i < kRows; ++i) {
      for (int64_t j = 0; j < kColumns; ++j) {
        double want = initial.empty() ? 0 : initial[i * kColumns + j];
        double magnitude = std::abs(want);
        int64_t depth = 0;
        for (const Pair& pair : pairs) {
          depth += pair.depth;
          for (int64_t p = 0; p < pair.depth; ++p) {
            const double term =
                pair.a.At(i, p + 1) * (pair.transposed ? pair.b.At(j, p) : pair.b.At(p, j));
            want += term;
            magnitude += std::abs(term);
          }
        }
        // Rounding errors of each step are random: their sum grows with its root. 8 deviations.
        ASSERT_NEAR(got[i * kColumns + j], want, 8 * std::sqrt(depth) * 0x1p-24 * magnitude)
            << i << " " << j;
      }
    }
  }

  static DType type() { return std::get<0>(GetParam()); }

  std::mt19937_64 random_{31};
  Products products_{type(), 1, *std::get<1>(GetParam())};
  Workspace scratch_;
};

std::vector<std::tuple<DType, const KernelSet*>> AllProducts() {
  std::vector<std::tuple<DType, const KernelSet*>> all;
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const KernelSet* set : TestedKernels(type)) all.emplace_back(type, set);
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(InstructionSets, PanelSumTest, ::testing::ValuesIn(AllProducts()),
                         [](const auto& info) {
                           return std::string(NameOf(std::get<0>(info.param))) +
                                  std::get<1>(info.param)->isa;
                         });

TEST_P(PanelSumTest, MoreFactorsThanARunTakes) {
  for (const int count : {kPanelTermsMax, kPanelTermsMax + 1, 2 * kPanelTermsMax + 3}) {
    std::vector<int64_t> depths;
    for (int i = 0; i < count; ++i) depths.push_back(1 + 7 * i % 20);
    ExpectPlainSum(Pairs(depths), {});
  }
}

TEST_P(PanelSumTest, DeeperFactorsThanARunTakesOneAloneAndSeveralTogether) {
  ExpectPlainSum(Pairs({9001}), {});
  ExpectPlainSum(Pairs({3000, 2000, 33, 4096, 1, 4097, 5}), {});
}

TEST_P(PanelSumTest, TheSumBeginsAtInitial) {
  std::normal_distribution<float> normal(0, 100);
  std::vector<float> initial(kRows * kColumns);
  for (float& value : initial) value = normal(random_);
  ExpectPlainSum(Pairs({4097, 77}), initial);
}

TEST_P(PanelSumTest, ARowHasTheSameBitsFromWhicheverRowTheSumStarts) {
  const std::vector<Pair> pairs = Pairs({4099, 17, 2, 300, 1, 1, 1, 1, 1, 64});
  const std::vector<float> whole = Sum(pairs, 0, nullptr);
  for (const int64_t row : {1, 7, 14}) {
    const std::vector<float> got = Sum(pairs, row, nullptr);
    EXPECT_EQ(got, std::vector<float>(whole.begin() + row * kColumns, whole.end())) << row;
  }
}

TEST_P(PanelSumTest, ARoundedSumIsTheSumRoundedOnce) {
  const std::vector<Pair> pairs = Pairs({4099, 17});
  const std::vector<float> sums = Sum(pairs, 0, nullptr);
  std::string rounded(kRows * kColumns * SizeOf(type()), '\0');
  for (const ColumnRange& columns : PanelsOf(kColumns)) {
    const std::vector<PanelFactor> factors = Factors(pairs, columns);
    RunSum(products_, 0, factors,
           {.rows = kRows,
            .columns = columns.width,
            .rounded = rounded.data() + columns.begin * SizeOf(type()),
            .out_row = kColumns},
           scratch_);
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    if (type() == DType::kF32) {
      EXPECT_EQ(std::memcmp(&rounded[4 * i], &sums[i], 4), 0) << i;
    } else {
      const BFloat16 want(sums[i]);
      EXPECT_EQ(std::memcmp(&rounded[2 * i], &want, 2), 0) << i;
    }
  }
}

TEST_P(PanelSumTest, PanelsCoverEveryColumnOnce) {
  for (const int64_t n : {1, 63, 64, 65, 128, 129, 576, 1536, 49152}) {
    int64_t next = 0;
    for (const ColumnRange& columns : PanelsOf(n)) {
      EXPECT_EQ(columns.begin, next) << n;
      EXPECT_GT(columns.width, 0) << n;
      EXPECT_LE(columns.width, kPanelColumns) << n;
      next += columns.width;
    }
    EXPECT_EQ(next, n);
  }
}

TEST_P(PanelSumTest, TasksCoverEveryRowOfEveryPanelOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    const CpuContext context(type(), *ThreadPool::Create(threads, {}), *std::get<1>(GetParam()),
                             nullptr);
    for (const int64_t panels : {1, 2, 3, 9, 26}) {
      for (const int64_t rows : {1, 95, 96, 97, 1000}) {
        std::vector<int64_t> next(panels, 0);
        for (const PanelTask& task : TasksOf(context, panels, rows)) {
          EXPECT_EQ(task.begin, next.at(task.panel));
          EXPECT_LT(task.begin, task.end);
          if (panels == 1) {
            EXPECT_LE(task.end - task.begin, SinglePanelRowsMax(threads, rows));
          }
          next[task.panel] = task.end;
        }
        EXPECT_EQ(next, std::vector<int64_t>(panels, rows)) << threads << " threads";
      }
    }
  }
}

}  // namespace
}  // namespace deltaworks::trainer

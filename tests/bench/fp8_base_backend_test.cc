// The measuring backend against the definition: the f64 reference over a base in fp8.

#include "tests/bench/fp8_base_backend.h"

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/backend/reference/reference_backend.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kRows = 9, kIn = 40, kOut = 24, kRank = 3;

// One linear with one adapter, in `Real`, from the same random numbers.
template <typename Real>
struct Case {
  Case() {
    std::mt19937_64 random(4);
    std::normal_distribution<float> normal;
    for (std::vector<Real>* values : {&x, &w, &a, &b, &dy}) {
      for (Real& value : *values) value = normal(random);
    }
  }
  static TensorView View(std::vector<Real>& values, int64_t rows) {
    return {
        values.data(), DTypeOf<Real>::value, {rows, static_cast<int64_t>(values.size()) / rows}};
  }
  void Run(Backend& backend) {
    const LoraPair pair = {View(a, kRank), View(b, kOut), 0.5f, View(da, kRank), View(db, kOut)};
    Segment segment;
    segment.row_end = kRows;
    segment.adapters = {&pair};
    const auto linear = *backend.Pack(View(w, kOut));
    backend.LinearGroupForward({linear.get()}, {segment}, View(x, kRows), View(hidden, kRows),
                               {View(y, kRows)}, ProductPath::kBatch);
    backend.LinearGroupBackward({linear.get()}, {segment}, View(x, kRows), View(hidden, kRows),
                                {View(dy, kRows)}, View(dhidden, kRows), View(dx, kRows));
  }
  std::vector<Real> x = std::vector<Real>(kRows * kIn), w = std::vector<Real>(kOut * kIn),
                    a = std::vector<Real>(kRank * kIn), b = std::vector<Real>(kOut * kRank),
                    dy = std::vector<Real>(kRows * kOut), y = std::vector<Real>(kRows * kOut),
                    hidden = std::vector<Real>(kRows * kRank),
                    dhidden = std::vector<Real>(kRows * kRank), dx = std::vector<Real>(kRows * kIn),
                    da = std::vector<Real>(kRank * kIn), db = std::vector<Real>(kOut * kRank);
};

TEST(Fp8BaseBackendTest, GivesWhatTheReferenceGives) {
  Case<double> want;
  want.Run(*NewFp8ReferenceBackend(DType::kF64));
  const auto cpu = *NewCpuBackend({.compute_type = DType::kF32});
  Fp8BaseBackend backend(*cpu);
  Case<float> got;
  got.Run(backend);
  Case<float> plain;
  plain.Run(*cpu);
  const auto compare = [](const std::vector<float>& values, const std::vector<double>& wanted,
                          const std::vector<float>& in_f32, bool differs) {
    double largest = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      // Sums of some 40 terms of size 10 at most.
      EXPECT_NEAR(values[i], wanted[i], 1e-4) << i;
      largest = std::max(largest, std::abs(wanted[i] - in_f32[i]));
    }
    EXPECT_EQ(largest > 1e-2, differs) << largest;
  };
  compare(got.y, want.y, plain.y, true);
  compare(got.dx, want.dx, plain.dx, true);
  compare(got.hidden, want.hidden, plain.hidden, false);
  compare(got.da, want.da, plain.da, false);
  compare(got.db, want.db, plain.db, false);
}

}  // namespace
}  // namespace deltaworks::trainer

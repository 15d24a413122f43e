// Kernels that parity tests of whole operations would not pin down: the exponential's error bound,
// and tails that must not touch memory behind them.

#include "trainer/backend/cpu/kernels/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/backend/cpu/kernels/dispatch.h"

namespace deltaworks::trainer {
namespace {

class KernelsTest : public ::testing::TestWithParam<const KernelSet*> {
 protected:
  const KernelSet& kernels_ = *GetParam();

  std::vector<float> Exp(const std::vector<float>& x) {
    std::vector<float> y(x.size());
    kernels_.exp(x.data(), y.data(), x.size());
    return y;
  }
};

INSTANTIATE_TEST_SUITE_P(InstructionSets, KernelsTest,
                         ::testing::ValuesIn(SupportedKernels(DType::kF32)),
                         [](const auto& info) { return std::string(info.param->isa); });

TEST(SupportedKernelsTest, TheEnvironmentLimitsThem) {
  const auto fastest = [](const char* limit) {
    if (limit == nullptr) {
      unsetenv("ONEDNN_MAX_CPU_ISA");
    } else {
      setenv("ONEDNN_MAX_CPU_ISA", limit, 1);
    }
    return std::string(SupportedKernels(DType::kBF16).back()->isa);
  };
  const char* const before = std::getenv("ONEDNN_MAX_CPU_ISA");
  const std::string saved = before == nullptr ? "" : before;
  std::vector<std::string> isas;
  unsetenv("ONEDNN_MAX_CPU_ISA");
  for (const KernelSet* set : SupportedKernels(DType::kBF16)) isas.push_back(set->isa);
  EXPECT_EQ(isas[0], "generic");
  const auto limited = [&](const char* isa) {  // What the machine has up to it.
    const std::vector<std::string> order = {"generic", "avx2", "avx512", "avx512bf16", "amx"};
    const auto place = std::find(order.begin(), order.end(), isa) - order.begin();
    return isas[std::min<size_t>(place, isas.size() - 1)];
  };
  EXPECT_EQ(fastest("SSE41"), "generic");
  EXPECT_EQ(fastest("AVX2"), limited("avx2"));
  EXPECT_EQ(fastest("AVX2_VNNI"), limited("avx2"));
  EXPECT_EQ(fastest("AVX512_CORE"), limited("avx512"));
  EXPECT_EQ(fastest("AVX512_CORE_BF16"), limited("avx512bf16"));
  EXPECT_EQ(fastest("AVX512_CORE_AMX"), isas.back());
  EXPECT_EQ(fastest("ALL"), isas.back());
  EXPECT_EQ(fastest(nullptr), isas.back());
  if (before != nullptr) setenv("ONEDNN_MAX_CPU_ISA", saved.c_str(), 1);
}

TEST_P(KernelsTest, ExpIsWithinTwoToTheMinus22OverItsWholeRange) {
  std::vector<float> x;
  // Steps of 2^-13 over all normal results, and some around each multiple of ln 2 / 2, where the
  // reduction turns over.
  for (float value = -87.33f; value <= 88.72f; value += 0x1p-13f) x.push_back(value);
  for (int i = -250; i <= 255; ++i) {
    const float turn = static_cast<float>(i * 0.34657359027997264);
    for (float value : {turn, std::nextafter(turn, 100.0f), std::nextafter(turn, -100.0f)}) {
      if (value >= -87.33f && value <= 88.72f) x.push_back(value);
    }
  }
  const std::vector<float> y = Exp(x);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = std::exp(static_cast<double>(x[i]));
    worst = std::max(worst, std::abs(y[i] - want) / want);
  }
  EXPECT_LT(worst, 0x1p-22);
}

TEST_P(KernelsTest, ExpAtItsEnds) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> y =
      Exp({0.0f, -0.0f, -infinity, infinity, -1000.0f, 1000.0f, -88.0f, 88.8f, NAN});
  EXPECT_EQ(y[0], 1);
  EXPECT_EQ(y[1], 1);
  EXPECT_EQ(y[2], 0);
  EXPECT_EQ(y[3], infinity);
  EXPECT_EQ(y[4], 0);
  EXPECT_EQ(y[5], infinity);
  EXPECT_EQ(y[6], 0) << "below the smallest normal number";
  EXPECT_EQ(y[7], infinity);
  EXPECT_TRUE(std::isnan(y[8]));
}

// Every length up to three vectors: the element behind the end keeps its value, and each element is
// what it is in a long vector.
TEST_P(KernelsTest, TailsAreComputedLikeBodiesAndEndWhereTheyShould) {
  std::vector<float> x(64);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.37f * static_cast<float>(i) - 9;
  const std::vector<float> whole = Exp(x);
  for (int64_t n = 0; n <= 48; ++n) {
    std::vector<float> y(x.size(), -7.0f);
    kernels_.exp(x.data(), y.data(), n);
    for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(y[i], i < n ? whole[i] : -7.0f) << n << " " << i;
  }
}

TEST_P(KernelsTest, DotProductsDoNotDependOnHowManyAreComputedAtOnce) {
  for (const int64_t k : {1, 16, 17, 63, 64, 65, 130, 577}) {
    const int64_t rows = 9, w_rows = 11, x_row = (k + 15) / 16 * 16;
    std::vector<float> x(rows * x_row), w(w_rows * k), all(rows * w_rows);
    for (int64_t i = 0; i < rows * x_row; ++i) {
      x[i] = i % x_row < k ? static_cast<float>(std::sin(i)) : NAN;
    }
    for (int64_t i = 0; i < w_rows * k; ++i) w[i] = static_cast<float>(std::cos(i));
    kernels_.dot(x.data(), x_row, rows, w.data(), k, w_rows, k, all.data(), w_rows);
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t j = 0; j < w_rows; ++j) {
        float one = 0;
        kernels_.dot(&x[t * x_row], x_row, 1, &w[j * k], k, 1, k, &one, 1);
        EXPECT_EQ(one, all[t * w_rows + j]) << k << " " << t << " " << j;
        double want = 0;
        for (int64_t p = 0; p < k; ++p) want += double{x[t * x_row + p]} * double{w[j * k + p]};
        EXPECT_NEAR(one, want, k * 0x1p-24 * std::sqrt(k));
      }
    }
  }
}

}  // namespace
}  // namespace deltaworks::trainer

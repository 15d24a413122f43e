#include "trainer/backend/cpu/kernels/tile_trial.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "trainer/tensor.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kRows = 35;  // Two rows of tiles, and one that is not full.
constexpr int64_t kColumns = 50;
constexpr int64_t kDepth = 77;
constexpr int64_t kStep = 32;

std::vector<BFloat16> Numbers(int64_t count, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<int> exponent(-12, 12);
  std::vector<BFloat16> numbers;
  for (int64_t i = 0; i < count; ++i) {
    numbers.emplace_back(std::ldexp(normal(random), exponent(random)));
  }
  return numbers;
}

// One element: sums of the even and of the odd places of 32, added to each other, then to the rest.
float Element(const BFloat16* a, const BFloat16* b, int64_t b_row) {
  float sum = 0;
  for (int64_t first = 0; first < kDepth; first += kStep) {
    float halves[2] = {0, 0};
    for (int64_t p = first; p < std::min(first + kStep, kDepth); ++p) {
      halves[p % 2] =
          std::fma(static_cast<float>(a[p]), static_cast<float>(b[p * b_row]), halves[p % 2]);
    }
    sum += halves[0] + halves[1];
  }
  return sum;
}

}  // namespace

bool TileTrial(const KernelSet& set) {
  std::mt19937_64 random(7);
  const std::vector<BFloat16> a = Numbers(kRows * kDepth, random);
  const std::vector<BFloat16> b = Numbers(kDepth * kColumns, random);
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> panel(PanelBytes(kDepth) / 64 + 1);
  std::vector<Line> scratch(PanelProductScratch(kDepth) / 64 + 1);
  std::vector<float> sums(kRows * kColumns);
  set.pack_panel_rows(b.data(), kColumns, kDepth, kColumns, panel.data());
  const PanelTerm term = {a.data(), kDepth, false, panel.data(), kDepth};
  set.panel_product({.terms = &term,
                     .term_count = 1,
                     .rows = kRows,
                     .columns = kColumns,
                     .initial = nullptr,
                     .initial_row = 0,
                     .sums = sums.data(),
                     .rounded = nullptr,
                     .out_row = kColumns},
                    scratch.data());
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kColumns; ++j) {
      const float want = Element(&a[i * kDepth], &b[j], kColumns);
      if (std::memcmp(&want, &sums[i * kColumns + j], sizeof(want)) != 0) return false;
    }
  }
  return true;
}

}  // namespace deltaworks::trainer

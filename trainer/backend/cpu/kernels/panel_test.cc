// Panels of each instruction set: every element of a product is one chain of multiply-adds,
// whatever stands around it. What a kernel must not use is NaN throughout: memory behind rows and
// columns, and panels before they are packed.

#include <algorithm>
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
#include "trainer/backend/cpu/kernels/tile_trial.h"

namespace deltaworks::trainer {
namespace {

// [rows, columns] in a compute type, with NaN behind each row and after the last.
class Matrix {
 public:
  Matrix(DType type, int64_t rows, int64_t columns, std::mt19937_64& random)
      : type_(type), row_(columns + 3), bytes_((rows + 1) * row_ * SizeOf(type), '\xff') {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) Set(i, j, normal(random));
    }
  }

  int64_t row() const { return row_; }
  const void* At(int64_t i, int64_t j) const {
    return bytes_.data() + (i * row_ + j) * SizeOf(type_);
  }
  float Value(int64_t i, int64_t j) const {
    if (type_ == DType::kBF16) return static_cast<float>(*static_cast<const BFloat16*>(At(i, j)));
    return *static_cast<const float*>(At(i, j));
  }
  void Set(int64_t i, int64_t j, float value) {
    const BFloat16 rounded(value);
    const bool bf16 = type_ == DType::kBF16;
    std::memcpy(&bytes_[(i * row_ + j) * SizeOf(type_)],
                bf16 ? static_cast<const void*>(&rounded) : &value, SizeOf(type_));
  }

 private:
  const DType type_;
  const int64_t row_;
  std::string bytes_;
};

// Memory aligned to 64, NaN at first.
class Aligned {
 public:
  explicit Aligned(int64_t bytes) : floats_(bytes / 4 + 17, std::nanf("")) {
    void* data = floats_.data();
    size_t space = floats_.size() * 4;
    data_ = std::align(64, bytes, data, space);
  }
  Aligned(Aligned&&) = default;
  void* data() const { return data_; }

 private:
  std::vector<float> floats_;
  void* data_;
};

struct Factor {
  Matrix a;  // [rows, depth].
  Matrix b;  // [depth, columns], or its transpose.
  bool b_transposed = false;
  bool a_packed = false;
};

class PanelTest : public ::testing::TestWithParam<std::tuple<DType, const KernelSet*>> {
 protected:
  static constexpr int64_t kRows = 50;  // More than a block of any kernel, and no multiple of one.

  Factor Random(int64_t depth, int64_t columns, bool b_transposed, bool a_packed) {
    const DType type = std::get<0>(GetParam());
    return {Matrix(type, kRows, depth, random_),
            b_transposed ? Matrix(type, columns, depth, random_)
                         : Matrix(type, depth, columns, random_),
            b_transposed, a_packed};
  }
  // Odd and even, shorter and longer than what kernels step over at once.
  std::vector<Factor> RandomFactors(int64_t columns) {
    std::vector<Factor> factors;
    for (const auto& [depth, b_transposed, a_packed] :
         std::vector<std::tuple<int64_t, bool, bool>>{{5, false, false},
                                                      {1, true, false},
                                                      {64, true, true},
                                                      {77, false, true},
                                                      {37, true, false},
                                                      {2, false, false},
                                                      {3, false, true},
                                                      {32, true, false}}) {
      factors.push_back(Random(depth, columns, b_transposed, a_packed));
    }
    return factors;
  }

  Aligned Pack(const Matrix& b, bool transposed, int64_t first, int64_t depth, int64_t column,
               int64_t columns) const {
    Aligned panel(PanelBytes(depth));
    const auto pack = transposed ? kernels_.pack_panel_transposed : kernels_.pack_panel_rows;
    pack(transposed ? b.At(column, first) : b.At(first, column), b.row(), depth, columns,
         panel.data());
    return panel;
  }

  static int64_t Depth(const Factor& factor) {
    return (factor.b_transposed ? factor.b : factor.a).row() - 3;
  }

  // Rows [row, row + rows) and columns [column, column + columns) of initial + the factors.
  std::vector<float> Product(const std::vector<Factor>& factors, int64_t row, int64_t rows,
                             int64_t column, int64_t columns, const float* initial,
                             int64_t initial_row, bool rounded = false) const {
    std::vector<Aligned> memory;
    std::vector<PanelTerm> terms;
    int64_t depth = 0;
    for (const Factor& factor : factors) {
      const int64_t own = Depth(factor);
      depth += own;
      memory.push_back(Pack(factor.b, factor.b_transposed, 0, own, column, columns));
      const void* const panel = memory.back().data();
      if (factor.a_packed) {
        memory.push_back(Transposed(factor.a, row, rows, own));
        terms.push_back({memory.back().data(), 0, true, panel, own});
      } else {
        terms.push_back({factor.a.At(row, 0), factor.a.row(), false, panel, own});
      }
    }
    return Run(terms, depth, rows, columns, initial, initial_row, rounded);
  }

  // The left side by pack_left, from its transpose.
  Aligned Transposed(const Matrix& a, int64_t row, int64_t rows, int64_t depth) const {
    std::mt19937_64 unused;
    Matrix transposed(std::get<0>(GetParam()), depth, rows, unused);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t p = 0; p < depth; ++p) transposed.Set(p, i, a.Value(row + i, p));
    }
    Aligned packed(PackedLeftBytes(depth));
    kernels_.pack_left(transposed.At(0, 0), transposed.row(), depth, rows, packed.data());
    return packed;
  }

  // Checks that nothing is written beside the result.
  std::vector<float> Run(const std::vector<PanelTerm>& terms, int64_t depth, int64_t rows,
                         int64_t columns, const float* initial, int64_t initial_row,
                         bool rounded) const {
    constexpr float kUntouched = -77;
    const int64_t out_row = columns + 5;
    const bool bf16 = rounded && std::get<0>(GetParam()) == DType::kBF16;
    std::vector<float> out(rows * out_row, kUntouched);
    std::vector<BFloat16> halves(rows * out_row, BFloat16(kUntouched));
    const Aligned scratch(PanelProductScratch(depth));
    void* const compute_out = bf16 ? static_cast<void*>(halves.data()) : out.data();
    kernels_.panel_product({.terms = terms.data(),
                            .term_count = static_cast<int64_t>(terms.size()),
                            .rows = rows,
                            .columns = columns,
                            .initial = initial,
                            .initial_row = initial_row,
                            .sums = rounded ? nullptr : out.data(),
                            .rounded = rounded ? compute_out : nullptr,
                            .out_row = out_row},
                           scratch.data());
    if (bf16) {
      std::transform(halves.begin(), halves.end(), out.begin(),
                     [](BFloat16 half) { return static_cast<float>(half); });
    }
    std::vector<float> result;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < out_row; ++j) {
        const float value = out[i * out_row + j];
        if (j < columns) {
          result.push_back(value);
        } else {
          EXPECT_EQ(value, kUntouched) << "column " << j << " of " << columns << " was written";
        }
      }
    }
    return result;
  }

  // One element, one step of the chain after the other: no block, no second row, no second factor.
  float Chain(const std::vector<Factor>& factors, int64_t i, int64_t j, float sum) const {
    // vdpbf16ps takes two at a step, and a tile 32.
    const std::string isa = kernels_.isa;
    const bool bf16 = std::get<0>(GetParam()) == DType::kBF16;
    const int64_t step = isa.find("amx") == 0 ? 32 : isa == "avx512bf16" && bf16 ? 2 : 1;
    for (const Factor& factor : factors) {
      for (int64_t p = 0; p < Depth(factor); p += step) {
        const int64_t depth = std::min(step, Depth(factor) - p);
        const Aligned panel = Pack(factor.b, factor.b_transposed, p, depth, j, 1);
        sum = Run({{factor.a.At(i, p), factor.a.row(), false, panel.data(), depth}}, depth, 1, 1,
                  &sum, 1, false)[0];
      }
    }
    return sum;
  }

  // In f64, and the sum of the terms' magnitudes.
  static std::pair<double, double> Exact(const std::vector<Factor>& factors, int64_t i, int64_t j,
                                         double initial) {
    double sum = initial, magnitude = std::abs(initial);
    for (const Factor& factor : factors) {
      for (int64_t p = 0; p < Depth(factor); ++p) {
        const double b = factor.b_transposed ? factor.b.Value(j, p) : factor.b.Value(p, j);
        sum += factor.a.Value(i, p) * b;
        magnitude += std::abs(factor.a.Value(i, p) * b);
      }
    }
    return {sum, magnitude};
  }

  std::vector<float> Normal(int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  static bool SameBits(float a, float b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

  const KernelSet& kernels_ = *std::get<1>(GetParam());
  std::mt19937_64 random_{23};
};

std::vector<std::tuple<DType, const KernelSet*>> AllKernels() {
  std::vector<std::tuple<DType, const KernelSet*>> all;
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const KernelSet* set : TestedKernels(type)) all.emplace_back(type, set);
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(InstructionSets, PanelTest, ::testing::ValuesIn(AllKernels()),
                         [](const auto& info) {
                           return std::string(NameOf(std::get<0>(info.param))) +
                                  std::get<1>(info.param)->isa;
                         });

TEST_P(PanelTest, AnElementIsTheChainOfItsStepsInOrderAndCloseToTheExactSum) {
  const std::vector<Factor> factors = RandomFactors(kPanelColumns);
  const std::vector<float> initial = Normal(kRows * (kPanelColumns + 2));
  const std::vector<float> got =
      Product(factors, 0, kRows, 0, kPanelColumns, initial.data(), kPanelColumns + 2);
  int64_t depth = 0;
  for (const Factor& factor : factors) depth += Depth(factor);
  // The chain, step by step, is slow: every third row, and all of the last, partial block.
  for (int64_t i = 0; i < kRows; i += i < 45 ? 3 : 1) {
    for (int64_t j = 0; j < kPanelColumns; ++j) {
      const float from = initial[i * (kPanelColumns + 2) + j];
      const float element = got[i * kPanelColumns + j];
      ASSERT_TRUE(SameBits(element, Chain(factors, i, j, from))) << i << " " << j;
      const auto [want, magnitude] = Exact(factors, i, j, from);
      // Each multiply-add rounds its sum twice at most.
      ASSERT_NEAR(element, want, 2 * depth * 0x1p-24 * magnitude) << i << " " << j;
    }
  }
}

TEST_P(PanelTest, NumbersOfRowsAndColumnsChangeNoBitAndNothingBesideThemIsRead) {
  std::vector<float> whole;
  const std::vector<float> initial = Normal(kRows * kPanelColumns);
  std::mt19937_64 same = random_;
  for (int64_t columns = kPanelColumns; columns >= 1; --columns) {
    // The first `columns` columns of the whole, with NaN behind them.
    random_ = same;
    std::vector<Factor> factors = RandomFactors(kPanelColumns);
    for (Factor& factor : factors) {
      for (int64_t j = columns; j < kPanelColumns; ++j) {
        for (int64_t p = 0; p < Depth(factor); ++p) {
          factor.b_transposed ? factor.b.Set(j, p, NAN) : factor.b.Set(p, j, NAN);
        }
      }
    }
    if (whole.empty()) {
      whole = Product(factors, 0, kRows, 0, columns, initial.data(), kPanelColumns);
    }
    for (int64_t rows = 1 + columns % 3; rows <= kRows; rows += columns % 8 == 0 ? 1 : 11) {
      const int64_t row = (kRows - rows) / 2;
      const std::vector<float> got = Product(factors, row, rows, 0, columns,
                                             initial.data() + row * kPanelColumns, kPanelColumns);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          ASSERT_TRUE(SameBits(got[i * columns + j], whole[(row + i) * kPanelColumns + j]))
              << rows << " rows, " << columns << " columns, element " << i << " " << j;
        }
      }
    }
  }
}

TEST_P(PanelTest, WithoutInitialASumBeginsAtZeroAndARoundedOneIsTheSumRounded) {
  for (const int64_t columns : {1, 15, 16, 17, 40, 64}) {
    const std::vector<Factor> factors = RandomFactors(columns);
    const std::vector<float> zeros(kRows * columns, 0.0f);
    const std::vector<float> sums = Product(factors, 0, kRows, 0, columns, nullptr, 0);
    EXPECT_EQ(sums, Product(factors, 0, kRows, 0, columns, zeros.data(), columns));
    const std::vector<float> rounded = Product(factors, 0, kRows, 0, columns, nullptr, 0, true);
    for (size_t i = 0; i < sums.size(); ++i) {
      const bool bf16 = std::get<0>(GetParam()) == DType::kBF16;
      ASSERT_EQ(rounded[i], bf16 ? static_cast<float>(BFloat16(sums[i])) : sums[i]);
    }
  }
}

// Bits of a sum are those of its part after part, so that a sum may be cut anywhere.
TEST_P(PanelTest, InitialMayBeTheSumsThemselves) {
  const std::vector<Factor> factors = RandomFactors(40);
  const std::vector<float> whole = Product(factors, 0, kRows, 0, 40, nullptr, 0);
  std::vector<float> sums(kRows * 40, 0.0f);
  for (const Factor& factor : factors) {
    const Aligned panel = Pack(factor.b, factor.b_transposed, 0, Depth(factor), 0, 40);
    const PanelTerm term = {factor.a.At(0, 0), factor.a.row(), false, panel.data(), Depth(factor)};
    const Aligned scratch(PanelProductScratch(term.depth));
    kernels_.panel_product({.terms = &term,
                            .term_count = 1,
                            .rows = kRows,
                            .columns = 40,
                            .initial = sums.data(),
                            .initial_row = 40,
                            .sums = sums.data(),
                            .out_row = 40},
                           scratch.data());
  }
  for (size_t i = 0; i < sums.size(); ++i) EXPECT_TRUE(SameBits(sums[i], whole[i])) << i;
}

TEST_P(PanelTest, NaNInOneRowAndOneColumnReachesNoOther) {
  std::vector<Factor> factors = RandomFactors(kPanelColumns);
  const std::vector<float> before = Product(factors, 0, kRows, 0, kPanelColumns, nullptr, 0);
  constexpr int64_t kRow = 7, kColumn = 20;
  for (Factor& factor : factors) {
    for (int64_t p = 0; p < Depth(factor); ++p) {
      factor.a.Set(kRow, p, NAN);
      factor.b_transposed ? factor.b.Set(kColumn, p, NAN) : factor.b.Set(p, kColumn, NAN);
    }
  }
  const std::vector<float> after = Product(factors, 0, kRows, 0, kPanelColumns, nullptr, 0);
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kPanelColumns; ++j) {
      const float got = after[i * kPanelColumns + j];
      if (i == kRow || j == kColumn) {
        EXPECT_TRUE(std::isnan(got)) << i << " " << j;
      } else {
        EXPECT_TRUE(SameBits(got, before[i * kPanelColumns + j])) << i << " " << j;
      }
    }
  }
}

// The definition of the instruction, one element at a time: of tiles where there are some, and of
// those that stand for them in tests. Other chains have other bits, which the trial must see.
TEST(TileTrialTest, TilesComputeWhatTheyAreDefinedToAndOtherKernelsDoNot) {
  for (const KernelSet* set : TestedKernels(DType::kBF16)) {
    EXPECT_EQ(TileTrial(*set), std::string(set->isa).find("amx") == 0) << set->isa;
  }
}

}  // namespace
}  // namespace deltaworks::trainer

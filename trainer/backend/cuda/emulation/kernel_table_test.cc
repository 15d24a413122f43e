// Every kernel of ../kernels, called as its header says, against plain f64 loops; one line of a
// table for each kernel and type, printed at the end.
//
// Everything that a kernel must not use, or must overwrite, is NaN: gaps between rows, and what
// lies before and behind (under ASan, what lies behind an input must not even be read). What a
// kernel must not write is compared with what was there. Shapes are not the full product of sizes,
// but each two sizes of different kinds meet; among the kinds is the order in which threads run.
// 4,097 rows are for kernels of whom a row asks little: not for the loss and attention.
//
// Bounds, none of them fitted. Let e = 2^-24 be what one rounding to f32 costs relatively, u what
// one rounding to the output's type costs: e, or 2^-8 in bf16.
//   - A kernel that moves numbers, or rounds them once, gives the very bits.
//   - An operation adds e of its result, a division or root too; expf, logf and powers of 2 add
//     4 e (2 ulp); a sum adds e of the sum of absolute values for each addition that an element
//     goes through (Higham 2002, 4.2), and fused multiply-adds can only do better.
//   - Errors of operands go through to the result multiplied by its derivative. Products of two
//     errors, at most 1 % of the bounds here, are paid for by kSecondOrder.
//   - The output's rounding comes on top. kTiny, where it matters, is for numbers below the normal.
// Each check says how many operations there are.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "trainer/backend/cuda/attention_plan.h"
#include "trainer/backend/cuda/emulation/emulation.h"
#include "trainer/backend/cuda/kernels/adapters.h"
#include "trainer/backend/cuda/kernels/attention.h"
#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/fp8.h"
#include "trainer/backend/philox.h"
#include "trainer/tensor.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace deltaworks::trainer::cuda {
namespace {

constexpr double kStep = 0x1p-24;  // e.
constexpr double kSecondOrder = 1.01;
constexpr double kTiny = 0x1p-126;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename T>
constexpr bool kIsBf16 = std::is_same_v<T, Bf16>;
template <typename T>
constexpr double kRoundOff = kIsBf16<T> ? 0x1p-8 : kStep;  // u.
template <typename T>
constexpr const char* kTypeName = kIsBf16<T> ? "bf16" : "f32";

template <typename T>
T Rounded(double value) {
  if constexpr (kIsBf16<T>) {
    return Bf16{BFloat16(static_cast<float>(value)).bits};
  } else {
    return static_cast<T>(value);
  }
}
double Widened(float x) { return x; }
double Widened(Bf16 x) { return static_cast<float>(std::bit_cast<BFloat16>(x)); }

// What a result is off by, `error` with its last operation in f32, when it is rounded to T.
template <typename T>
double Bound(double want, double error) {
  const double in_f32 = kSecondOrder * error;
  return kIsBf16<T> ? in_f32 + kRoundOff<T> * (std::abs(want) + in_f32) : in_f32;
}

// ---- The table

struct Line {
  int64_t shapes = 0;
  double error = 0;  // Of the element that is nearest to its bound, or most beyond it.
  double bound = 0;
  double ratio = 0;
  bool exact = true;  // Nothing was allowed to be off.
};

class Table : public ::testing::Environment {
 public:
  Line& LineOf(const std::string& kernel, const std::string& type) {
    const auto [found, added] = numbers_.try_emplace({kernel, type}, lines_.size());
    if (added) lines_.push_back({kernel, type, {}});
    return lines_[found->second].line;
  }

  void TearDown() override {
    std::printf("\nOf each kernel, the element nearest to its bound:\n");
    std::printf("%-38s %-5s %7s %14s %14s %7s\n", "kernel", "type", "shapes", "error", "its bound",
                "ratio");
    for (const Named& named : lines_) {
      const Line& line = named.line;
      std::printf("%-38s %-5s %7lld ", named.kernel.c_str(), named.type.c_str(),
                  static_cast<long long>(line.shapes));
      if (line.exact) {
        std::printf("%14s %14s\n", line.error == 0 ? "0" : "not 0", "exact");
      } else {
        std::printf("%14.3e %14.3e %7.3f\n", line.error, line.bound, line.ratio);
      }
    }
    std::fflush(stdout);
  }

 private:
  struct Named {
    std::string kernel;
    std::string type;
    Line line;
  };
  std::deque<Named> lines_;  // As they were first used; references to them stay.
  std::map<std::pair<std::string, std::string>, size_t> numbers_;
};

// gtest owns it.
Table& GlobalTable() {
  static Table* const table = new Table();
  return *table;
}
[[maybe_unused]] ::testing::Environment* const kRegistered =
    ::testing::AddGlobalTestEnvironment(&GlobalTable());

// ---- Memory

// A matrix of [rows, columns] whose rows are `stride` elements apart, its first element `offset`
// elements behind 64 bytes aligned memory. All bits are set until something is written.
template <typename T>
class Matrix {
 public:
  Matrix(int64_t rows, int64_t columns, int64_t stride, int64_t offset)
      : rows_(rows), columns_(columns), stride_(stride) {
    const int64_t inside = rows > 0 ? (rows - 1) * stride + columns : 0;
    memory_.resize(kFront + offset + inside + kRowsBehind * stride + kFront);
    std::memset(static_cast<void*>(memory_.data()), 0xff, memory_.size() * sizeof(T));
    const auto misplaced = reinterpret_cast<uintptr_t>(memory_.data()) % kAlignment;
    begin_ = static_cast<int64_t>((kAlignment - misplaced) / sizeof(T)) + offset;
    end_ = begin_ + inside;
  }
  Matrix(int64_t rows, int64_t columns) : Matrix(rows, columns, columns, 0) {}
  Matrix(Matrix&&) = default;
  ~Matrix() { Guard(false); }

  T* data() { return memory_.data() + begin_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t stride() const { return stride_; }

  T& At(int64_t row, int64_t column) { return memory_[begin_ + row * stride_ + column]; }
  const T& At(int64_t row, int64_t column) const {
    return memory_[begin_ + row * stride_ + column];
  }
  double Value(int64_t row, int64_t column) const { return Widened(At(row, column)); }
  void Set(int64_t row, int64_t column, double value) { At(row, column) = Rounded<T>(value); }

  // From the first element to the last, with the gaps between.
  std::string Bytes() const {
    return std::string(reinterpret_cast<const char*>(memory_.data() + begin_),
                       (end_ - begin_) * sizeof(T));
  }

  void FillRandom(std::mt19937_64& random, double deviation = 1) {
    std::normal_distribution<double> normal(0, deviation);
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t column = 0; column < columns_; ++column) Set(row, column, normal(random));
    }
  }
  // Of an input, which must not be read behind its end.
  Matrix& Input() {
    Guard(true);
    return *this;
  }

  bool IsUntouched(int64_t row, int64_t column) const {
    const T& element = At(row, column);
    return IsUntouched(&element, 1);
  }
  // Whether all that is no element of the matrix is as it was.
  bool HasCleanSurroundings() const {
    if (!IsUntouched(memory_.data(), begin_)) return false;
    for (int64_t row = 0; row + 1 < rows_; ++row) {
      const T* behind_row = memory_.data() + begin_ + row * stride_ + columns_;
      if (!IsUntouched(behind_row, stride_ - columns_)) return false;
    }
    return IsUntouched(memory_.data() + end_, static_cast<int64_t>(memory_.size()) - end_);
  }

 private:
  static constexpr uintptr_t kAlignment = 64;
  static constexpr int64_t kFront = 64;  // Elements before and behind, with what aligns them.
  static constexpr int64_t kRowsBehind = 16;

  static bool IsUntouched(const T* elements, int64_t count) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(elements);
    return std::all_of(bytes, bytes + count * sizeof(T), [](unsigned char b) { return b == 0xff; });
  }
  void Guard([[maybe_unused]] bool guard) {
#ifdef __SANITIZE_ADDRESS__
    if (memory_.empty()) return;
    if (guard) {
      ASAN_POISON_MEMORY_REGION(memory_.data() + end_, (memory_.size() - end_) * sizeof(T));
    } else {
      ASAN_UNPOISON_MEMORY_REGION(memory_.data(), memory_.size() * sizeof(T));
    }
#endif
  }

  int64_t rows_, columns_, stride_;
  std::vector<T> memory_;
  int64_t begin_ = 0, end_ = 0;
};

// ---- One shape of a kernel

// Compares what a kernel gave at one shape, and adds it to the kernel's line.
class Check {
 public:
  template <typename... Sizes>
  Check(const std::string& kernel, const std::string& type, const Sizes&... sizes)
      : line_(GlobalTable().LineOf(kernel, type)),
        name_(absl::StrCat(kernel, " ", type, " [",
                           absl::StrJoin(std::vector<std::string>{absl::StrCat(sizes)...}, ","),
                           "]")) {
    ++line_.shapes;
  }
  ~Check() {
    const std::string error = TakeLaunchError();
    EXPECT_EQ(error, "") << name_;
  }

  // NaN where NaN is wanted, the same infinity where that is, else within `bound`.
  void ExpectNear(double got, double want, double bound, int64_t row, int64_t column) {
    if (bound > 0) line_.exact = false;
    if (std::isnan(want) ? std::isnan(got) : got == want) return;
    const double error = std::abs(got - want);
    const double ratio = bound > 0 && std::isfinite(want) ? error / bound : kInfinity;
    if (!(ratio <= line_.ratio)) line_.error = error, line_.bound = bound, line_.ratio = ratio;
    if (!(ratio <= 1)) {
      Fail(absl::StrCat(got, ", want ", want, " within ", bound), row, column);
    }
  }
  template <typename T>
  void ExpectExact(T got, T want, int64_t row, int64_t column) {
    if (std::memcmp(&got, &want, sizeof(T)) == 0) return;
    line_.error = kInfinity;
    Fail(absl::StrCat(Widened(got), ", want exactly ", Widened(want)), row, column);
  }
  template <typename T>
  void ExpectUntouched(const Matrix<T>& matrix, int64_t row, int64_t column) {
    if (!matrix.IsUntouched(row, column)) Fail("written, want it left alone", row, column);
  }
  template <typename T>
  void ExpectCleanSurroundings(const Matrix<T>& matrix) {
    EXPECT_TRUE(matrix.HasCleanSurroundings()) << name_ << ": wrote outside of its output";
  }
  // Every element is the one that want(row, column) gives, and nothing else was written.
  template <typename T, typename Want>
  void ExpectAllExact(const Matrix<T>& matrix, Want want) {
    for (int64_t row = 0; row < matrix.rows(); ++row) {
      for (int64_t column = 0; column < matrix.columns(); ++column) {
        ExpectExact(matrix.At(row, column), want(row, column), row, column);
      }
    }
    ExpectCleanSurroundings(matrix);
  }

 private:
  void Fail(const std::string& what, int64_t row, int64_t column) {
    if (++failures_ > 3) return;
    ADD_FAILURE() << name_ << ": row " << row << ", column " << column << " is " << what;
  }

  Line& line_;
  const std::string name_;
  int failures_ = 0;
};

// ---- Shapes

// Calls run(choice) with choices of one index for each size, such that each two values of each two
// sizes meet in at least one of them.
template <size_t kSizes, typename Run>
void ForEachPairwise(const std::array<int, kSizes>& sizes, Run run) {
  std::vector<std::array<int, 4>> left;  // Pairs of (size, value) that have not met.
  for (int i = 0; i < kSizes; ++i) {
    for (int j = i + 1; j < kSizes; ++j) {
      for (int a = 0; a < sizes[i]; ++a) {
        for (int b = 0; b < sizes[j]; ++b) left.push_back({i, a, j, b});
      }
    }
  }
  std::mt19937_64 random(5);
  const auto meets = [](const std::array<int, kSizes>& choice, const std::array<int, 4>& pair) {
    return choice[pair[0]] == pair[1] && choice[pair[2]] == pair[3];
  };
  while (!left.empty()) {
    std::array<int, kSizes> best = {};
    int64_t best_count = -1;
    for (int attempt = 0; attempt < 30; ++attempt) {
      std::array<int, kSizes> choice;
      for (int i = 0; i < kSizes; ++i) choice[i] = static_cast<int>(random() % sizes[i]);
      choice[left[0][0]] = left[0][1];
      choice[left[0][2]] = left[0][3];
      const int64_t count = std::count_if(left.begin(), left.end(),
                                          [&](const auto& pair) { return meets(choice, pair); });
      if (count > best_count) best = choice, best_count = count;
    }
    std::erase_if(left, [&](const auto& pair) { return meets(best, pair); });
    run(best);
  }
}

constexpr ThreadOrder kOrders[] = {ThreadOrder::kForward, ThreadOrder::kBackward,
                                   ThreadOrder::kShuffled};
constexpr int64_t kRows[] = {1, 31, 33, 128, 4097};
// One more than a block of kernels for rows takes is among them.
constexpr int64_t kWidths[] = {1, 7, 8, 33, 64, 1025};
constexpr int64_t kElementsMax = 300'000;  // Larger matrices have fewer rows than kRows asks.

struct RowShape {
  int64_t rows;
  int64_t width;
  int64_t gap;     // Elements between rows.
  int64_t offset;  // Of the first element from an aligned one.
  int variant;     // 0 or 1, for the kernel to use.
};

// Matrices of kRows by kWidths, aligned and not.
template <typename Run>
void ForRowShapes(Run run) {
  ForEachPairwise<6>({5, 6, 3, 2, 2, 3}, [&](const std::array<int, 6>& choice) {
    RowShape shape = {kRows[choice[0]], kWidths[choice[1]], std::array{0, 8, 3}[choice[2]],
                      std::array{0, 1}[choice[3]], choice[4]};
    if (shape.rows * shape.width > kElementsMax) shape.rows = 1024;
    SetThreadOrder(kOrders[choice[5]]);
    run(shape);
  });
  SetThreadOrder(ThreadOrder::kForward);
}

template <typename T>
class KernelTable : public ::testing::Test {
 protected:
  // A dense matrix, or one of `shape` with its gaps.
  template <typename U>
  static Matrix<U> Dense(const RowShape& shape) {
    return Matrix<U>(shape.rows, shape.width, shape.width, shape.offset);
  }
  template <typename U>
  static Matrix<U> Gapped(const RowShape& shape) {
    return Matrix<U>(shape.rows, shape.width, shape.width + shape.gap, shape.offset);
  }
  template <typename U>
  Matrix<U> Random(Matrix<U> matrix, double deviation = 1) {
    matrix.FillRandom(random_, deviation);
    matrix.Input();
    return matrix;
  }
  Matrix<int32_t> Integers(int64_t count, int32_t end) {
    Matrix<int32_t> integers(count, 1);
    for (int64_t i = 0; i < count; ++i) integers.At(i, 0) = static_cast<int32_t>(random_() % end);
    return integers;
  }

  std::mt19937_64 random_{29};
};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(KernelTable, Types);
using F32KernelTable = KernelTable<float>;  // Of what gradients and moments are.

// ---- Rows and elements

TYPED_TEST(KernelTable, Embed) {
  using T = TypeParam;
  ForRowShapes([&](const RowShape& shape) {
    constexpr int64_t kVocabulary = 37;
    RowShape table_shape = shape;
    table_shape.rows = kVocabulary + 1;  // One row more than Embed may know of.
    const auto& [rows, width, gap, offset, variant] = shape;
    auto table = this->Random(this->template Gapped<T>(table_shape));
    Matrix<int32_t> ids = this->Integers(rows, kVocabulary);
    ids.At(rows / 2, 0) = kVocabulary - 1;
    const int32_t outside[] = {-1, kVocabulary, std::numeric_limits<int32_t>::max()};
    for (int i = 0; i < 3 && i < rows - 1; ++i) ids.At(i * (rows - 2) / 3, 0) = outside[i];
    auto out = this->template Dense<float>(shape);
    Check check("Embed", kTypeName<T>, rows, width, gap, offset);
    Embed<T>(nullptr, table.data(), table.stride(), kVocabulary, ids.data(), rows, width,
             out.data());
    for (int64_t row = 0; row < rows; ++row) {
      const int32_t id = ids.At(row, 0);
      const bool known = id >= 0 && id < kVocabulary;
      for (int64_t column = 0; column < width; ++column) {
        check.ExpectNear(out.Value(row, column), known ? table.Value(id, column) : kNaN, 0, row,
                         column);
        if (!known && out.IsUntouched(row, column)) ADD_FAILURE() << row << " is not written";
      }
    }
    check.ExpectCleanSurroundings(out);
  });
}

TYPED_TEST(KernelTable, AddResidual) {
  using T = TypeParam;
  ForRowShapes([&](const RowShape& shape) {
    auto x = this->template Dense<float>(shape);
    x.FillRandom(this->random_);
    auto y = this->Random(this->template Dense<T>(shape));
    auto out = this->template Dense<float>(shape);
    const bool in_place = shape.variant == 1;
    if (in_place) std::memcpy(out.data(), x.data(), shape.rows * shape.width * sizeof(float));
    Check check("AddResidual", kTypeName<T>, shape.rows, shape.width, shape.offset, in_place);
    AddResidual<T>(nullptr, in_place ? out.data() : x.data(), y.data(), shape.rows * shape.width,
                   out.data());
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t column = 0; column < shape.width; ++column) {
        const double want = x.Value(row, column) + y.Value(row, column);
        check.ExpectNear(out.Value(row, column), want, kStep * std::abs(want), row,
                         column);  // A sum.
      }
    }
    check.ExpectCleanSurroundings(out);
  });
}

TYPED_TEST(KernelTable, Round) {
  using T = TypeParam;
  // Zeros, denormals, halves to even, carries, infinities, quiet NaNs.
  const uint32_t kinds[] = {0x00000000, 0x80000000, 0x00000001, 0x00008000, 0x00018000,
                            0x007fffff, 0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff,
                            0x7f800000, 0xff800000, 0x7fffffff, 0xffc00000};
  ForRowShapes([&](const RowShape& shape) {
    auto x = this->template Dense<float>(shape);
    x.FillRandom(this->random_);
    const int64_t count = shape.rows * shape.width;
    for (int64_t i = 0; i < count; i += 3) {
      std::memcpy(x.data() + i, &kinds[i / 3 % std::size(kinds)], 4);
    }
    auto y = this->template Dense<T>(shape);
    Check check("Round", kTypeName<T>, shape.rows, shape.width, shape.offset);
    Round<T>(nullptr, x.data(), count, y.data());
    check.ExpectAllExact(
        y, [&](int64_t row, int64_t column) { return Rounded<T>(x.At(row, column)); });
  });
}

TYPED_TEST(KernelTable, Rope) {
  using T = TypeParam;
  ForRowShapes([&](const RowShape& shape) {
    const int64_t half = std::min<int64_t>(shape.width, 64), heads = 1 + shape.gap % 4;
    const int64_t rows = std::max<int64_t>(shape.rows / heads, 1);
    constexpr int64_t kPlaces = 50;
    Matrix<float> cosines(kPlaces, half), sines(kPlaces, half);
    for (int64_t place = 0; place < kPlaces; ++place) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = place * std::pow(100.0, -static_cast<double>(i) / half);
        cosines.Set(place, i, std::cos(angle));
        sines.Set(place, i, std::sin(angle));
      }
    }
    cosines.Input(), sines.Input();
    Matrix<int32_t> positions = this->Integers(rows, kPlaces);
    Matrix<T> x(rows, heads * 2 * half, heads * 2 * half, shape.offset);
    x.FillRandom(this->random_);
    const std::vector<T> before(x.data(), x.data() + rows * heads * 2 * half);
    const bool inverse = shape.variant == 1;
    Check check("Rope", kTypeName<T>, rows, heads, half, shape.offset, inverse);
    Rope<T>(nullptr, x.data(), rows, heads, half, positions.data(), cosines.data(), sines.data(),
            inverse);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < heads * 2 * half; ++column) {
        const int64_t i = column % half;
        const bool second = column / half % 2 == 1;
        const int64_t at = row * heads * 2 * half + column;
        const double cosine = cosines.Value(positions.At(row, 0), i);
        const double sine = sines.Value(positions.At(row, 0), i) * (inverse ? -1 : 1);
        const double own = Widened(before[at]) * cosine;
        const double other =
            second ? Widened(before[at - half]) * sine : -Widened(before[at + half]) * sine;
        // Two products and their sum.
        const double error = 2 * kStep * (std::abs(own) + std::abs(other));
        check.ExpectNear(x.Value(row, column), own + other, Bound<T>(own + other, error), row,
                         column);
      }
    }
    check.ExpectCleanSurroundings(x);
  });
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Gates of both signs, a few of them so large that expf overflows.
template <typename T>
void SetLargeGates(Matrix<T>* gate) {
  const int64_t count = gate->rows() * gate->columns();
  for (int64_t i = 5; i < count; i += 11) gate->data()[i] = Rounded<T>(i % 2 == 0 ? -95.0 : 95.0);
}

TYPED_TEST(KernelTable, SwigluForward) {
  using T = TypeParam;
  ForRowShapes([&](const RowShape& shape) {
    auto gate = this->template Dense<T>(shape), up = this->template Dense<T>(shape);
    gate.FillRandom(this->random_, 4), up.FillRandom(this->random_);
    SetLargeGates(&gate);
    auto out = this->template Dense<T>(shape);
    Check check("SwigluForward", kTypeName<T>, shape.rows, shape.width, shape.offset);
    SwigluForward<T>(nullptr, gate.data(), up.data(), shape.rows * shape.width, out.data());
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t column = 0; column < shape.width; ++column) {
        const double g = gate.Value(row, column), u = up.Value(row, column);
        const double want = g * Sigmoid(g) * u;
        // exp 4, sum 1, division 1, product 1; expf(-g) overflows where sigmoid is below 2^-128.
        const double error = 7 * kStep * std::abs(want) + kTiny * std::abs(g * u);
        check.ExpectNear(out.Value(row, column), want, Bound<T>(want, error), row, column);
      }
    }
    check.ExpectCleanSurroundings(out);
  });
}

TYPED_TEST(KernelTable, SwigluBackward) {
  using T = TypeParam;
  ForRowShapes([&](const RowShape& shape) {
    auto gate = this->template Dense<T>(shape), up = this->template Dense<T>(shape);
    auto dout = this->template Dense<T>(shape);
    gate.FillRandom(this->random_, 4), up.FillRandom(this->random_), dout.FillRandom(this->random_);
    SetLargeGates(&gate);
    auto dgate = this->template Dense<T>(shape), dup = this->template Dense<T>(shape);
    Check check("SwigluBackward", kTypeName<T>, shape.rows, shape.width, shape.offset);
    SwigluBackward<T>(nullptr, gate.data(), up.data(), dout.data(), shape.rows * shape.width,
                      dgate.data(), dup.data());
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t column = 0; column < shape.width; ++column) {
        const double g = gate.Value(row, column), u = up.Value(row, column);
        const double d = dout.Value(row, column), s = Sigmoid(g);
        const double overflow = kTiny * (1 + std::abs(d * u)) * (1 + g * g);
        // s: exp 4, sum 1, division 1. 1 + g (1 - s): 6 s + 1 in 1 - s, a product, a sum; then
        // three products.
        const double inner = 1 + std::abs(g) * (1 - s);
        const double slope_error = kStep * s * (6 * inner + std::abs(g) * (6 * s + 1) + 2 * inner);
        const double want = d * u * s * (1 + g * (1 - s));
        const double error = std::abs(d * u) * slope_error + 3 * kStep * std::abs(want) + overflow;
        check.ExpectNear(dgate.Value(row, column), want, Bound<T>(want, error), row, column);
        // s and two products.
        const double dup_want = d * g * s;
        check.ExpectNear(dup.Value(row, column), dup_want,
                         Bound<T>(dup_want, 8 * kStep * std::abs(dup_want) + overflow), row,
                         column);
      }
    }
    check.ExpectCleanSurroundings(dgate);
    check.ExpectCleanSurroundings(dup);
  });
}

TYPED_TEST(KernelTable, GatherRowsAndScatterRows) {
  using T = TypeParam;
  ForRowShapes([&](const RowShape& shape) {
    const auto& [rows, width, gap, offset, variant] = shape;
    auto x = this->Random(this->template Dense<T>(shape));
    std::vector<int32_t> order(rows);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), this->random_);
    order.resize((rows + 1) / 2);
    const auto count = static_cast<int64_t>(order.size());
    Matrix<T> gathered(count, width, width, offset);
    {
      Check check("CopyRows (gather)", kTypeName<T>, rows, width, offset);
      GatherRows<T>(nullptr, x.data(), order.data(), count, width, gathered.data());
      check.ExpectAllExact(gathered, [&](int64_t row, int64_t c) { return x.At(order[row], c); });
    }
    auto scattered = this->template Dense<T>(shape);
    Check check("CopyRows (scatter)", kTypeName<T>, rows, width, offset);
    ScatterRows<T>(nullptr, gathered.data(), order.data(), count, width, scattered.data());
    std::vector<bool> given(rows);
    for (const int32_t row : order) given[row] = true;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < width; ++column) {
        if (given[row]) {
          check.ExpectExact(scattered.At(row, column), x.At(row, column), row, column);
        } else {
          check.ExpectUntouched(scattered, row, column);
        }
      }
    }
    check.ExpectCleanSurroundings(scattered);
  });
}

TYPED_TEST(KernelTable, CopyMatrix) {
  using T = TypeParam;
  ForRowShapes([&](const RowShape& shape) {
    const int64_t filled = shape.width + (shape.variant == 0 ? 0 : 13);
    auto from = this->Random(this->template Gapped<T>(shape));
    Matrix<T> to(shape.rows, filled, filled + (shape.gap == 3 ? 5 : 8), shape.offset);
    Check check("CopyRows (copy)", kTypeName<T>, shape.rows, shape.width, filled, shape.gap,
                shape.offset);
    CopyMatrix<T>(nullptr, from.data(), from.stride(), shape.rows, shape.width, filled, to.data(),
                  to.stride());
    check.ExpectAllExact(to, [&](int64_t row, int64_t column) {
      return column < shape.width ? from.At(row, column) : Rounded<T>(0);
    });
  });
}

TYPED_TEST(KernelTable, Fill) {
  using T = TypeParam;
  ForRowShapes([&](const RowShape& shape) {
    auto x = this->template Dense<T>(shape);
    const float value = shape.variant == 0 ? 0.0f : -1.2345678f;
    Check check("Fill", kTypeName<T>, shape.rows, shape.width, shape.offset);
    FillValue<T>(nullptr, x.data(), shape.rows * shape.width, value);
    check.ExpectAllExact(x, [&](int64_t, int64_t) { return Rounded<T>(value); });
  });
}

TEST_F(F32KernelTable, AddMatrix) {
  ForRowShapes([&](const RowShape& shape) {
    auto from = this->Random(this->template Gapped<float>(shape));
    Matrix<float> to(shape.rows, shape.width, shape.width + (shape.variant == 0 ? 0 : 3), 0);
    to.FillRandom(this->random_);
    std::vector<float> before;
    for (int64_t row = 0; row < shape.rows; ++row) {
      before.insert(before.end(), &to.At(row, 0), &to.At(row, 0) + shape.width);
    }
    Check check("AddMatrix", "f32", shape.rows, shape.width, shape.gap, shape.variant);
    AddMatrix(nullptr, from.data(), from.stride(), shape.rows, shape.width, to.data(), to.stride());
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t column = 0; column < shape.width; ++column) {
        const double want =
            static_cast<double>(before[row * shape.width + column]) + from.Value(row, column);
        check.ExpectNear(to.Value(row, column), want, kStep * std::abs(want), row,
                         column);  // A sum.
      }
    }
    check.ExpectCleanSurroundings(to);
  });
}

// ---- Numbers of eight bits

using Bf16KernelTable = KernelTable<Bf16>;

TEST_F(Bf16KernelTable, RowsToFp8) {
  ForRowShapes([&](const RowShape& shape) {
    const auto& [rows, width, gap, offset, variant] = shape;
    auto x = Matrix<Bf16>(rows, width, width + gap, offset);
    // Rows of all magnitudes; one of zeros, one below the least scale, one with a NaN, one
    // infinite.
    x.FillRandom(random_);
    for (int64_t row = 0; row < rows; ++row) {
      const double size =
          row % 7 == 3 ? 0 : std::ldexp(1.0, static_cast<int>(row * 37 % 200) - 100);
      for (int64_t column = 0; column < width; ++column) {
        x.Set(row, column, x.Value(row, column) * size);
      }
    }
    if (rows > 8) x.Set(5, width / 2, kNaN), x.Set(8, width - 1, -kInfinity);
    x.Input();
    const int64_t filled = (width + 15) / 16 * 16 + 16 * variant;
    Matrix<uint8_t> codes(rows, filled, filled + 8 * (gap > 0), 0);
    Matrix<float> scales(rows, 1);
    Check check("RowsToFp8", "fp8", rows, width, gap, offset, filled);
    RowsToFp8(nullptr, x.data(), x.stride(), rows, width, filled, codes.data(), codes.stride(),
              scales.data());
    std::vector<float> want_scales(rows);
    for (int64_t row = 0; row < rows; ++row) {
      float largest = 0;
      for (int64_t column = 0; column < width; ++column) {
        largest = std::fmax(largest, std::abs(static_cast<float>(x.Value(row, column))));
      }
      want_scales[row] = Fp8Scale(largest);
    }
    check.ExpectAllExact(scales, [&](int64_t row, int64_t) { return want_scales[row]; });
    check.ExpectAllExact(codes, [&](int64_t row, int64_t column) {
      if (column >= width) return uint8_t{0};
      return Fp8Code(static_cast<float>(x.Value(row, column)), want_scales[row]).bits;
    });
  });
}

TEST_F(Bf16KernelTable, Transpose) {
  ForRowShapes([&](const RowShape& shape) {
    auto from = Random(Gapped<Bf16>(shape));
    Matrix<Bf16> to(shape.width, shape.rows, shape.rows + 5 * shape.variant, shape.offset);
    Check check("Transpose", "bf16", shape.rows, shape.width, shape.gap, to.stride());
    Transpose(nullptr, from.data(), from.stride(), shape.rows, shape.width, to.data(), to.stride());
    check.ExpectAllExact(to, [&](int64_t row, int64_t column) { return from.At(column, row); });
  });
}

// ---- Norms

// Blocks of 256 threads, 2,049 columns are one more than they take at once.
constexpr int64_t kNormWidths[] = {1, 7, 8, 33, 576, 2049};

// Additions that a square goes through: its thread's octets, then a tree of 32 and 8 warps.
int64_t NormAdditions(int64_t width) {
  return std::min<int64_t>(width, (width + 2047) / 2048 * 8) + 5 + 8;
}

template <typename Run>
void ForNormShapes(Run run) {
  ForEachPairwise<4>({5, 6, 2, 3}, [&](const std::array<int, 4>& choice) {
    RowShape shape = {kRows[choice[0]], kNormWidths[choice[1]], 0, choice[2], 0};
    if (shape.rows > 1000 && shape.width != 33) shape.rows = 130;  // 33 meets all rows.
    SetThreadOrder(kOrders[choice[3]]);
    run(shape);
  });
  SetThreadOrder(ThreadOrder::kForward);
}

TYPED_TEST(KernelTable, RmsNormForward) {
  using T = TypeParam;
  ForNormShapes([&](const RowShape& shape) {
    constexpr float kEpsilon = 1e-3f;
    auto x = this->Random(this->template Dense<float>(shape), 0.3);
    auto weight = this->Random(Matrix<float>(1, shape.width, shape.width, shape.offset));
    auto y = this->template Dense<T>(shape);
    Matrix<float> rstd(shape.rows, 1);
    Check check("RmsNormForward", kTypeName<T>, shape.rows, shape.width, shape.offset);
    RmsNormForward<T>(nullptr, x.data(), weight.data(), kEpsilon, shape.rows, shape.width, y.data(),
                      rstd.data());
    for (int64_t row = 0; row < shape.rows; ++row) {
      double sum = 0;
      for (int64_t i = 0; i < shape.width; ++i) sum += x.Value(row, i) * x.Value(row, i);
      const double scale = 1 / std::sqrt(sum / shape.width + kEpsilon);
      // Squares and their sum, mean and epsilon go through a root, which halves them; root,
      // inverse.
      const double steps = ((NormAdditions(shape.width) + 3) / 2.0 + 2) * kStep;
      check.ExpectNear(rstd.Value(row, 0), scale, kSecondOrder * steps * scale, row, -1);
      for (int64_t i = 0; i < shape.width; ++i) {
        const double want = x.Value(row, i) * scale * weight.Value(0, i);
        const double error = (steps + 2 * kStep) * std::abs(want);  // Two products.
        check.ExpectNear(y.Value(row, i), want, Bound<T>(want, error), row, i);
      }
    }
    check.ExpectCleanSurroundings(y);
    check.ExpectCleanSurroundings(rstd);
  });
}

TYPED_TEST(KernelTable, RmsNormBackward) {
  using T = TypeParam;
  ForNormShapes([&](const RowShape& shape) {
    auto x = this->Random(this->template Dense<float>(shape));
    auto weight = this->Random(Matrix<float>(1, shape.width, shape.width, shape.offset));
    auto dy = this->Random(this->template Dense<T>(shape));
    Matrix<float> rstd(shape.rows, 1);
    for (int64_t row = 0; row < shape.rows; ++row) rstd.Set(row, 0, 0.5 + row % 7 * 0.2);
    auto dx = this->template Dense<float>(shape);
    dx.FillRandom(this->random_);
    const std::vector<float> before(dx.data(), dx.data() + shape.rows * shape.width);
    Check check("RmsNormBackward", kTypeName<T>, shape.rows, shape.width, shape.offset);
    RmsNormBackward<T>(nullptr, x.data(), weight.data(), rstd.data(), dy.data(), shape.rows,
                       shape.width, dx.data());
    for (int64_t row = 0; row < shape.rows; ++row) {
      const double scale = rstd.Value(row, 0);
      double mean = 0, absolute = 0;
      for (int64_t i = 0; i < shape.width; ++i) {
        const double term =
            dy.Value(row, i) * weight.Value(0, i) * x.Value(row, i) * scale / shape.width;
        mean += term;
        absolute += std::abs(term);
      }
      // Three products, the sum, the division.
      const double mean_error = (NormAdditions(shape.width) + 4) * kStep * absolute;
      for (int64_t i = 0; i < shape.width; ++i) {
        const double g = dy.Value(row, i) * weight.Value(0, i), n = x.Value(row, i) * scale;
        const double want = before[row * shape.width + i] + scale * (g - n * mean);
        // g: a product; n mean: two and mean's error; the difference, times scale, and the sum.
        const double error = scale * (3 * kStep * std::abs(g) + 4 * kStep * std::abs(n * mean) +
                                      std::abs(n) * mean_error) +
                             kStep * std::abs(want);
        check.ExpectNear(dx.Value(row, i), want, kSecondOrder * error, row, i);
      }
    }
    check.ExpectCleanSurroundings(dx);
  });
}

// ---- Output layer

TEST(ArgMaxTable, ArgMax) {
  std::mt19937_64 random(5);
  for (const ThreadOrder order : kOrders) {
    SetThreadOrder(order);
    for (const int64_t rows : {1, 33}) {
      for (const int64_t columns : {1, 31, 1024, 1025, 4500}) {
        Matrix<float> x(rows, columns, columns + 3, /*offset=*/1);
        x.FillRandom(random);
        Matrix<int32_t> places(rows, 1);
        std::vector<int32_t> want(rows);
        for (int64_t row = 0; row < rows; ++row) {
          // Few values, so that the largest stands in several places; some are no number.
          for (int64_t i = 0; i < columns; ++i) {
            float& value = x.At(row, i);
            value = std::floor(value);
            if (random() % 8 == 0) value = kNaN;
            const float best = x.At(row, want[row]);
            if (value > best || (std::isnan(best) && !std::isnan(value))) {
              want[row] = static_cast<int32_t>(i);
            }
          }
        }
        Check check("ArgMax", "f32", rows, columns);
        ArgMax(nullptr, x.data(), x.stride(), rows, columns, places.data());
        for (int64_t row = 0; row < rows; ++row) {
          check.ExpectExact(places.At(row, 0), want[row], row, 0);
        }
        check.ExpectCleanSurroundings(places);
      }
    }
  }
  SetThreadOrder(ThreadOrder::kForward);
}

TYPED_TEST(KernelTable, SoftmaxLoss) {
  using T = TypeParam;
  constexpr int64_t kLossRows[] = {1, 31, 33, 128};
  constexpr int64_t kVocabularies[] = {1, 2, 33, 300, 1025, 4500};
  ForEachPairwise<5>({4, 6, 3, 2, 3}, [&](const std::array<int, 5>& choice) {
    const int64_t vocabulary = kVocabularies[choice[1]], gap = std::array{0, 3, 8}[choice[2]];
    const int64_t rows =
        vocabulary > 1000 ? std::min<int64_t>(kLossRows[choice[0]], 33) : kLossRows[choice[0]];
    const bool has_gradient = choice[3] == 0;
    SetThreadOrder(kOrders[choice[4]]);
    auto logits =
        this->Random(Matrix<float>(rows, vocabulary, vocabulary + gap, choice[2] == 1), 5);
    Matrix<int32_t> labels = this->Integers(rows, vocabulary);
    const int32_t outside[] = {-1, static_cast<int32_t>(vocabulary)};
    for (int i = 0; i < 2 && i < rows - 1; ++i) labels.At(i * 7, 0) = outside[i];
    auto weights = this->Random(Matrix<float>(rows, 1));
    Matrix<float> losses(rows, 1);
    const int64_t filled = vocabulary + gap;
    Matrix<T> gradient(rows, filled, filled + 1, 0);
    Check check("SoftmaxLoss", kTypeName<T>, rows, vocabulary, gap, has_gradient);
    SoftmaxLoss<T>(nullptr, logits.data(), logits.stride(), rows, vocabulary, labels.data(),
                   weights.data(), losses.data(), has_gradient ? gradient.data() : nullptr,
                   gradient.stride(), filled);
    // A thread's terms, then a tree of 32 and 32 warps.
    const double additions = (vocabulary + 1023) / 1024 + 5 + 32;
    for (int64_t row = 0; row < rows; ++row) {
      double top = -kInfinity, sum = 0, spread = 0;
      for (int64_t i = 0; i < vocabulary; ++i) top = std::max(top, logits.Value(row, i));
      for (int64_t i = 0; i < vocabulary; ++i) sum += std::exp(logits.Value(row, i) - top);
      for (int64_t i = 0; i < vocabulary; ++i) {
        const double below = top - logits.Value(row, i);
        spread += std::exp(-below) / sum * below;
      }
      // The exponents' rounding, weighted as they count; exp 4.
      const double sum_error = kSecondOrder * kStep * (spread + 4 + additions);
      const int64_t label = labels.At(row, 0);
      const bool known = label >= 0 && label < vocabulary;
      const double loss = known ? top + std::log(sum) - logits.Value(row, label) : kNaN;
      check.ExpectNear(losses.Value(row, 0), loss, sum_error + kStep * std::abs(loss), row, -1);
      for (int64_t i = 0; i < filled; ++i) {
        if (!has_gradient) {
          check.ExpectUntouched(gradient, row, i);
          continue;
        }
        const double weight = weights.Value(row, 0);
        const double below = i < vocabulary ? top - logits.Value(row, i) : 0;
        const double p = i < vocabulary ? std::exp(-below) / sum : 0;
        const double want = weight * (p - (i == label && i < vocabulary ? 1 : 0));
        // p: exponent, exp 4, the sum, its inverse, a product; a difference, a product.
        const double p_error = p * (kStep * (below + 6) + sum_error) + kTiny;
        const double error = std::abs(weight) * p_error + 2 * kStep * std::abs(want);
        check.ExpectNear(gradient.Value(row, i), want, i < vocabulary ? Bound<T>(want, error) : 0,
                         row, i);
      }
    }
    check.ExpectCleanSurroundings(losses);
    check.ExpectCleanSurroundings(gradient);
  });
  SetThreadOrder(ThreadOrder::kForward);
}

// ---- Optimiser

TEST_F(F32KernelTable, SumOfSquares) {
  // 16,384 to a partial sum; the last has more partial sums than there are threads to add them.
  constexpr int64_t kCounts[] = {0, 1, 31, 33, 128, 4097, 16384, 16385, 70001, 257 * 16384 + 1};
  for (size_t i = 0; i < std::size(kCounts); ++i) {
    SetThreadOrder(kOrders[i % 3]);
    const int64_t count = kCounts[i];
    Matrix<float> x(count, 1);
    std::minstd_rand random(7);
    for (int64_t k = 0; k < count; ++k) x.data()[k] = (random() % 2001 - 1000.0f) * 0.37f;
    x.Input();
    Matrix<double> partials(SquarePartials(count), 1), sum(1, 1);
    Check check("SquarePartials, AddPartials", "f32", count);
    SumOfSquares(nullptr, x.data(), count, partials.data(), sum.data());
    long double want = 0;
    for (int64_t k = 0; k < count; ++k) {
      want += static_cast<long double>(x.data()[k]) * x.data()[k];
    }
    // Squares are exact in f64; 64 to a thread and a tree of 256, twice.
    check.ExpectNear(sum.At(0, 0), static_cast<double>(want),
                     static_cast<double>(want) * (64 + 8 + 2 + 8) * 0x1p-53, 0, 0);
    check.ExpectCleanSurroundings(partials);
    check.ExpectCleanSurroundings(sum);
  }
  SetThreadOrder(ThreadOrder::kForward);
}

TEST_F(F32KernelTable, AdamW) {
  ForRowShapes([&](const RowShape& shape) {
    const int64_t count = shape.rows * shape.width;
    AdamWScalars n;
    n.gradient_scale = 0.7f;
    n.decay = 0.999f;
    n.beta1 = 0.9f;
    n.one_minus_beta1 = 0.1f;
    n.beta2 = 0.99f;
    n.one_minus_beta2 = 0.01f;
    n.step_size = 0.02f;
    n.root_correction2 = 0.3f;
    n.epsilon = shape.variant == 0 ? 1e-8f : 1e-1f;
    auto gradient = this->Random(this->template Dense<float>(shape));
    auto parameter = this->template Dense<float>(shape);
    auto m = this->template Dense<float>(shape), v = this->template Dense<float>(shape);
    parameter.FillRandom(this->random_);
    m.FillRandom(this->random_, 0.3);
    for (int64_t i = 0; i < count; ++i) v.data()[i] = 0.01f + static_cast<float>(i % 50) * 0.05f;
    const std::vector<float> parameter_before(parameter.data(), parameter.data() + count);
    const std::vector<float> m_before(m.data(), m.data() + count);
    const std::vector<float> v_before(v.data(), v.data() + count);
    Check check("AdamW", "f32", shape.rows, shape.width, shape.offset, shape.variant);
    AdamW(nullptr, n, gradient.data(), count, parameter.data(), m.data(), v.data());
    for (int64_t i = 0; i < count; ++i) {
      const double g = static_cast<double>(gradient.data()[i]) * n.gradient_scale;
      const double difference = g - m_before[i];
      const double mean = m_before[i] + n.one_minus_beta1 * difference;
      // g, the difference, the product; the sum.
      const double mean_error =
          kStep * (n.one_minus_beta1 * (std::abs(g) + 2 * std::abs(difference)) + std::abs(mean));
      check.ExpectNear(m.data()[i], mean, kSecondOrder * mean_error, i, 0);
      const double old = static_cast<double>(n.beta2) * v_before[i];
      const double square = old + static_cast<double>(n.one_minus_beta2) * g * g;
      // g twice, two products; the sum.
      check.ExpectNear(v.data()[i], square, kSecondOrder * 5 * kStep * square, i, 1);
      const double denominator = std::sqrt(square) / n.root_correction2 + n.epsilon;
      const double update = n.step_size * (mean / denominator);
      const double decayed = static_cast<double>(parameter_before[i]) * n.decay;
      // The denominator: half of 5, root, division, sum; the quotient, the product.
      const double update_error =
          n.step_size / denominator * mean_error + (2.5 + 3 + 2) * kStep * std::abs(update);
      const double want = decayed - update;
      check.ExpectNear(parameter.data()[i], want,
                       kSecondOrder * (update_error + kStep * (std::abs(decayed) + std::abs(want))),
                       i, 2);
    }
    check.ExpectCleanSurroundings(parameter);
    check.ExpectCleanSurroundings(m);
    check.ExpectCleanSurroundings(v);
  });
}

// ---- Adapters

constexpr int64_t kLinears = 3;
constexpr int64_t kRanks[] = {1, 3, 8, 64};

// Segments and slices as a group of kLinears linears has them.
template <typename T>
struct Adapters {
  std::vector<SegmentRows> segments;
  std::vector<Slice> slices;
  std::vector<Column> group_columns;
  std::vector<Column> linear_columns[kLinears];
  std::vector<Matrix<T>> a, b;  // By slice.
  std::vector<int32_t> flags;
  int64_t hidden_width = 1;

  AdapterTable Upload() {
    flags.assign(slices.size(), 0);
    return {.segments = segments.data(),
            .slices = slices.data(),
            .group_columns = group_columns.data(),
            .flags = flags.data(),
            .segment_count = static_cast<int32_t>(segments.size()),
            .slice_count = static_cast<int32_t>(slices.size()),
            .group_width = static_cast<int32_t>(group_columns.size())};
  }
  // All slices' columns, or those of one linear.
  const std::vector<Column>& ColumnsOf(int linear) const {
    return linear < 0 ? group_columns : linear_columns[linear];
  }
  const SegmentRows* SegmentOf(int64_t row) const {
    for (const SegmentRows& segment : segments) {
      if (segment.row_begin <= row && row < segment.row_end) return &segment;
    }
    return nullptr;
  }
  // What dropout multiplies a feature with.
  static double Factor(const SegmentRows& segment, int64_t row, int64_t feature) {
    const uint64_t seed = segment.seed_low | uint64_t{segment.seed_high} << 32;
    const auto token = static_cast<uint32_t>(segment.token + row - segment.row_begin);
    const PhiloxWords words =
        DropoutWords(seed, segment.step, segment.site, token, static_cast<uint32_t>(feature / 4));
    return words[feature % 4] >= segment.threshold ? segment.keep_scale : 0;
  }
};

struct AdapterShape {
  int64_t rows;  // Of the range, which begins at `begin`.
  int64_t begin;
  int segments;      // 17: one of them without rows, one without adapters.
  int rank;          // Of the first slice, in kRanks; the others have others.
  int64_t features;  // K or N.
  int64_t gap;
  int64_t offset;
  int variant;
};

template <typename Run>
void ForAdapterShapes(Run run) {
  constexpr int kSegments[] = {0, 1, 2, 17};
  constexpr int64_t kFeatures[] = {1, 7, 33, 64, 1025};
  ForEachPairwise<8>({5, 2, 4, 4, 5, 3, 2, 3}, [&](const std::array<int, 8>& choice) {
    AdapterShape shape = {kRows[choice[0]],
                          choice[1] * 5,
                          kSegments[choice[2]],
                          choice[3],
                          kFeatures[choice[4]],
                          std::array{0, 8, 3}[choice[5]],
                          choice[6],
                          (choice[0] + choice[2] + choice[7]) % 3};
    if (shape.rows * shape.features > kElementsMax) shape.rows = 300;
    SetThreadOrder(kOrders[choice[7]]);
    run(shape);
  });
  SetThreadOrder(ThreadOrder::kForward);
}

template <typename T>
Adapters<T> MakeAdapters(const AdapterShape& shape, std::mt19937_64& random) {
  const int64_t end = shape.begin + shape.rows;
  std::vector<int32_t> cuts(2 * shape.segments);
  for (int32_t& cut : cuts) cut = static_cast<int32_t>(random() % (end + 1));
  std::sort(cuts.begin(), cuts.end());
  if (shape.segments == 1 && shape.variant == 0) cuts = {0, static_cast<int32_t>(end)};
  if (shape.segments == 17) cuts[11] = cuts[10];
  Adapters<T> adapters;
  for (int s = 0; s < shape.segments; ++s) {
    SegmentRows segment = {};
    segment.row_begin = cuts[2 * s];
    segment.row_end = cuts[2 * s + 1];
    segment.slice_begin = static_cast<int32_t>(adapters.slices.size());
    int64_t hidden_column = 0;
    for (int linear = 0; linear < kLinears; ++linear) {
      if ((shape.segments == 17 && s == 3) || (s + linear) % 4 == 3) continue;
      const int64_t rank = kRanks[(shape.rank + s + linear) % 4];
      const auto slice = static_cast<int32_t>(adapters.slices.size());
      std::vector<Column>& columns = adapters.linear_columns[linear];
      adapters.slices.push_back(
          {.scale = 0.3f + s,
           .rank = static_cast<int32_t>(rank),
           .hidden_column = static_cast<int32_t>(hidden_column),
           .group_column = static_cast<int32_t>(adapters.group_columns.size()),
           .linear_column = static_cast<int32_t>(columns.size()),
           .linear = linear});
      for (int64_t r = 0; r < (rank + 7) / 8 * 8; ++r) {
        const Column column = r < rank ? Column{slice, static_cast<int32_t>(r)} : Column{-1, 0};
        columns.push_back(column);
        adapters.group_columns.push_back(column);
      }
      hidden_column += rank;
      Matrix<T> a(rank, shape.features), b(shape.features, rank);
      a.FillRandom(random), b.FillRandom(random);
      // Some are sick, in one of their matrices.
      const double sick[] = {kNaN, kInfinity, -kInfinity};
      if (slice % 3 == 1) a.Set(rank - 1, shape.features / 2, sick[slice / 3 % 3]);
      if (slice % 4 == 2) b.Set(shape.features - 1, rank / 2, sick[slice / 4 % 3]);
      adapters.a.push_back(std::move(a));
      adapters.b.push_back(std::move(b));
    }
    adapters.hidden_width = std::max(adapters.hidden_width, hidden_column);
    segment.slice_end = static_cast<int32_t>(adapters.slices.size());
    if ((s + shape.variant) % 3 != 1) {
      const float p = 0.1f + 0.2f * (s % 4);
      segment.threshold = DropoutThreshold(p);
      segment.keep_scale = 1 / (1 - p);
      segment.seed_low = 7 + s;
      segment.seed_high = 11;
      segment.step = 3;
      segment.site = 5 << 8 | 1;
      segment.token = 1000 * s;
    }
    adapters.segments.push_back(segment);
  }
  for (size_t slice = 0; slice < adapters.slices.size(); ++slice) {
    adapters.slices[slice].a = adapters.a[slice].Input().data();
    adapters.slices[slice].b = adapters.b[slice].Input().data();
  }
  return adapters;
}

TYPED_TEST(KernelTable, CopyInput) {
  using T = TypeParam;
  ForAdapterShapes([&](const AdapterShape& shape) {
    Adapters<T> adapters = MakeAdapters<T>(shape, this->random_);
    const int64_t k = shape.features, filled = k + (shape.variant == 0 ? 0 : 11);
    auto x = this->Random(Matrix<T>(shape.rows, k, k + shape.gap, shape.offset));
    for (const bool drop : {false, true}) {
      Matrix<T> to(shape.rows, filled, filled + (shape.gap == 3 ? 2 : shape.gap), shape.offset);
      Check check(drop ? "CopyInput, dropout" : "CopyInput", kTypeName<T>, shape.rows, shape.begin,
                  shape.segments, k, filled, shape.gap, shape.offset);
      CopyInput<T>(nullptr, adapters.Upload(), {shape.begin, shape.rows}, x.data(), x.stride(), k,
                   filled, drop, to.data(), to.stride());
      for (int64_t row = 0; row < shape.rows; ++row) {
        const SegmentRows* segment = drop ? adapters.SegmentOf(shape.begin + row) : nullptr;
        for (int64_t c = 0; c < filled; ++c) {
          if (segment == nullptr || segment->threshold == 0 || c >= k) {
            check.ExpectExact(to.At(row, c), c < k ? x.At(row, c) : Rounded<T>(0), row, c);
            continue;
          }
          const double want = x.Value(row, c) * adapters.Factor(*segment, shape.begin + row, c);
          const double bound = Bound<T>(want, kStep * std::abs(want));  // A product.
          check.ExpectNear(to.Value(row, c), want, bound, row, c);
        }
      }
      check.ExpectCleanSurroundings(to);
    }
  });
}

constexpr Rows kChosenRows[] = {Rows::kAll, Rows::kWithoutDropout, Rows::kWithDropout};

// That `to` has what PlaceHidden makes of `hidden`.
template <typename T>
void ExpectPlaced(const Adapters<T>& adapters, int64_t begin, int linear, Rows rows,
                  const Matrix<T>& hidden, const Matrix<T>& to, Check* check) {
  const std::vector<Column>& columns = adapters.ColumnsOf(linear);
  for (int64_t row = 0; row < to.rows(); ++row) {
    const SegmentRows* segment = adapters.SegmentOf(begin + row);
    const bool chosen =
        segment != nullptr &&
        (rows == Rows::kAll || (segment->threshold > 0) == (rows == Rows::kWithDropout));
    for (int64_t c = 0; c < to.columns(); ++c) {
      const Column column = c < std::ssize(columns) ? columns[c] : Column{-1, 0};
      const bool own =
          chosen && column.slice >= segment->slice_begin && column.slice < segment->slice_end;
      if (!own) {
        check->ExpectExact(to.At(row, c), Rounded<T>(0), row, c);
      } else if (adapters.flags[column.slice] != 0) {
        check->ExpectNear(to.Value(row, c), kNaN, 0, row, c);
        if (to.IsUntouched(row, c)) ADD_FAILURE() << row << " is not written";
      } else {
        const int64_t at = adapters.slices[column.slice].hidden_column + column.rank_index;
        check->ExpectExact(to.At(row, c), hidden.At(row, at), row, c);
      }
    }
  }
  check->ExpectCleanSurroundings(to);
}

TYPED_TEST(KernelTable, SelectHidden) {
  using T = TypeParam;
  int number = 0;
  ForAdapterShapes([&](const AdapterShape& shape) {
    Adapters<T> adapters = MakeAdapters<T>(shape, this->random_);
    const int linear = shape.variant - 1;
    const auto width = static_cast<int64_t>(adapters.ColumnsOf(linear).size());
    auto sums = this->Random(Matrix<float>(shape.rows, width, width + shape.gap, shape.offset));
    Matrix<T> hidden(shape.rows, adapters.hidden_width, adapters.hidden_width + shape.gap, 0);
    // Every other time with its columns, some of flagged slices.
    const bool places = ++number % 2 == 0;
    const Rows chosen_rows = kChosenRows[number / 2 % 3];
    Matrix<T> to(shape.rows, width, width + shape.gap, shape.offset);
    const AdapterTable table = adapters.Upload();
    for (size_t s = 0; s < adapters.flags.size(); s += 5) adapters.flags[s] = 1;
    Check check(places ? "Hidden (select and place)" : "Hidden (select)", kTypeName<T>, shape.rows,
                shape.begin, shape.segments, shape.rank, linear, shape.gap);
    SelectHidden<T>(nullptr, table, {shape.begin, shape.rows}, linear, sums.data(), sums.stride(),
                    hidden.data(), hidden.stride(), chosen_rows, places ? width : 0,
                    places ? to.data() : nullptr, to.stride());
    for (int64_t row = 0; row < shape.rows; ++row) {
      std::vector<int64_t> from(adapters.hidden_width, -1);
      std::vector<double> scale(adapters.hidden_width);
      const SegmentRows* segment = adapters.SegmentOf(shape.begin + row);
      for (int s = segment ? segment->slice_begin : 0; segment && s < segment->slice_end; ++s) {
        const Slice& slice = adapters.slices[s];
        if (linear >= 0 && slice.linear != linear) continue;
        for (int r = 0; r < slice.rank; ++r) {
          from[slice.hidden_column + r] =
              r + (linear < 0 ? slice.group_column : slice.linear_column);
          scale[slice.hidden_column + r] = slice.scale;
        }
      }
      for (int64_t c = 0; c < adapters.hidden_width; ++c) {
        if (from[c] < 0) {
          check.ExpectUntouched(hidden, row, c);
          continue;
        }
        const double want = scale[c] * sums.Value(row, from[c]);
        const double bound = Bound<T>(want, kStep * std::abs(want));  // A product.
        check.ExpectNear(hidden.Value(row, c), want, bound, row, c);
      }
    }
    check.ExpectCleanSurroundings(hidden);
    if (places) ExpectPlaced(adapters, shape.begin, linear, chosen_rows, hidden, to, &check);
  });
}

TYPED_TEST(KernelTable, PlaceHidden) {
  using T = TypeParam;
  ForAdapterShapes([&](const AdapterShape& shape) {
    Adapters<T> adapters = MakeAdapters<T>(shape, this->random_);
    const int linear = shape.variant - 1;
    auto hidden = this->Random(
        Matrix<T>(shape.rows, adapters.hidden_width, adapters.hidden_width + shape.gap, 0));
    const std::string before = hidden.Bytes();
    for (const Rows rows : kChosenRows) {
      const int64_t width = std::ssize(adapters.ColumnsOf(linear)) + (rows == Rows::kAll ? 0 : 8);
      Matrix<T> to(shape.rows, width, width + shape.gap, shape.offset);
      const AdapterTable table = adapters.Upload();
      for (size_t s = 0; s < adapters.flags.size(); s += 5) adapters.flags[s] = 1;
      Check check("Hidden (place)", kTypeName<T>, shape.rows, shape.begin, shape.segments,
                  shape.rank, linear, static_cast<int>(rows), shape.gap, shape.offset);
      PlaceHidden<T>(nullptr, table, {shape.begin, shape.rows}, linear, rows, hidden.data(),
                     hidden.stride(), width, to.data(), to.stride());
      ExpectPlaced(adapters, shape.begin, linear, rows, hidden, to, &check);
      EXPECT_EQ(hidden.Bytes(), before);
    }
  });
}

// A matrix's own elements but those that are not finite, which are 0, and flag their slice.
template <typename T>
T FiniteOf(const Matrix<T>& matrix, int64_t row, int64_t column, int32_t* flag) {
  if (std::isfinite(matrix.Value(row, column))) return matrix.At(row, column);
  *flag = 1;
  return Rounded<T>(0);
}

TYPED_TEST(KernelTable, PlaceB) {
  using T = TypeParam;
  ForAdapterShapes([&](const AdapterShape& shape) {
    Adapters<T> adapters = MakeAdapters<T>(shape, this->random_);
    const int linear = shape.variant - 1;
    const std::vector<Column>& columns = adapters.ColumnsOf(linear);
    const auto width = static_cast<int64_t>(columns.size());
    const int64_t n = shape.features, filled = n + (shape.gap == 0 ? 0 : 9);
    Matrix<T> to(filled, width, width + shape.gap, shape.offset);
    Check check("PlaceB", kTypeName<T>, shape.segments, shape.rank, n, filled, linear, shape.gap,
                shape.offset);
    PlaceB<T>(nullptr, adapters.Upload(), columns.data(), width, n, filled, to.data(), to.stride());
    std::vector<int32_t> flags(adapters.slices.size());
    check.ExpectAllExact(to, [&](int64_t row, int64_t c) {
      const auto& [slice, r] = columns[c];
      return slice < 0 || row >= n ? Rounded<T>(0)
                                   : FiniteOf(adapters.b[slice], row, r, &flags[slice]);
    });
    EXPECT_EQ(adapters.flags, flags);
  });
}

TYPED_TEST(KernelTable, PlaceA) {
  using T = TypeParam;
  ForAdapterShapes([&](const AdapterShape& shape) {
    Adapters<T> adapters = MakeAdapters<T>(shape, this->random_);
    const int linear = shape.variant - 1;
    const std::vector<Column>& columns = adapters.ColumnsOf(linear);
    const auto width = static_cast<int64_t>(columns.size());
    const int64_t k = shape.features, filled = k + (shape.gap == 0 ? 0 : 9);
    Matrix<T> to(width, filled, filled + shape.gap, shape.offset);
    Check check("PlaceA", kTypeName<T>, shape.segments, shape.rank, k, filled, linear, shape.gap,
                shape.offset);
    PlaceA<T>(nullptr, adapters.Upload(), columns.data(), width, k, filled, to.data(), to.stride());
    std::vector<int32_t> flags(adapters.slices.size());
    check.ExpectAllExact(to, [&](int64_t c, int64_t column) {
      const auto& [slice, r] = columns[c];
      return slice < 0 || column >= k ? Rounded<T>(0)
                                      : FiniteOf(adapters.a[slice], r, column, &flags[slice]);
    });
    EXPECT_EQ(adapters.flags, flags);
  });
}

constexpr int64_t kDecodedRowsMax = 64;

TYPED_TEST(KernelTable, DecodeHidden) {
  using T = TypeParam;
  ForAdapterShapes([&](const AdapterShape& shape) {
    Adapters<T> adapters = MakeAdapters<T>(shape, this->random_);
    const int64_t k = shape.features, rows = std::min(shape.rows, kDecodedRowsMax);
    auto x = this->Random(Matrix<T>(rows, k, k + shape.gap, shape.offset));
    Matrix<T> hidden(rows, adapters.hidden_width, adapters.hidden_width + shape.gap, 0);
    Check check("DecodeHidden", kTypeName<T>, rows, shape.begin, shape.segments, shape.rank, k,
                shape.gap, shape.offset);
    DecodeHidden<T>(nullptr, adapters.Upload(), {shape.begin, rows}, x.data(), x.stride(), k,
                    adapters.hidden_width, hidden.data(), hidden.stride());
    // By lane, then the tree; and each term is a product of what dropout scaled.
    const int64_t operations = (k + 255) / 256 * 8 + 5 + 2;
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<bool> own(adapters.hidden_width);
      const SegmentRows* segment = adapters.SegmentOf(shape.begin + row);
      std::vector<double> dropped(segment == nullptr ? 0 : k);
      for (int64_t i = 0; i < std::ssize(dropped); ++i) {
        dropped[i] = x.Value(row, i);
        if (segment->threshold > 0) dropped[i] *= adapters.Factor(*segment, shape.begin + row, i);
      }
      for (int s = segment ? segment->slice_begin : 0; segment && s < segment->slice_end; ++s) {
        const Slice& slice = adapters.slices[s];
        for (int r = 0; r < slice.rank; ++r) {
          double sum = 0, magnitudes = 0;
          for (int64_t i = 0; i < k; ++i) {
            const double term = dropped[i] * adapters.a[s].Value(r, i);
            sum += term, magnitudes += std::abs(term);
          }
          const double want = slice.scale * sum;
          const double error =
              kStep * (slice.scale * operations * magnitudes + std::abs(want));  // And the scale.
          const int64_t c = slice.hidden_column + r;
          own[c] = true;
          check.ExpectNear(hidden.Value(row, c), want, Bound<T>(want, error), row, c);
        }
      }
      for (int64_t c = 0; c < adapters.hidden_width; ++c) {
        if (!own[c]) check.ExpectUntouched(hidden, row, c);
      }
    }
    check.ExpectCleanSurroundings(hidden);
  });
}

TYPED_TEST(KernelTable, DecodeOutput) {
  using T = TypeParam;
  ForAdapterShapes([&](const AdapterShape& shape) {
    Adapters<T> adapters = MakeAdapters<T>(shape, this->random_);
    const int64_t n = shape.features, rows = std::min(shape.rows, kDecodedRowsMax);
    auto base = this->Random(Matrix<float>(rows, n, n + shape.gap, shape.offset));
    auto hidden =
        this->Random(Matrix<T>(rows, adapters.hidden_width, adapters.hidden_width + shape.gap, 0));
    for (int linear = 0; linear < kLinears; ++linear) {
      Matrix<T> y(rows, n, n + shape.gap, shape.offset);
      Check check("DecodeOutput", kTypeName<T>, rows, shape.begin, shape.segments, shape.rank, n,
                  linear, shape.gap, shape.offset);
      DecodeOutput<T>(nullptr, adapters.Upload(), {shape.begin, rows}, linear, base.data(),
                      base.stride(), hidden.data(), hidden.stride(), n, y.data(), y.stride());
      for (int64_t row = 0; row < rows; ++row) {
        const SegmentRows* segment = adapters.SegmentOf(shape.begin + row);
        const Slice* own = nullptr;
        int64_t of_slice = 0;
        for (int s = segment ? segment->slice_begin : 0; segment && s < segment->slice_end; ++s) {
          if (adapters.slices[s].linear == linear) own = &adapters.slices[s], of_slice = s;
        }
        for (int64_t c = 0; c < n; ++c) {
          if (own == nullptr) {
            check.ExpectExact(y.At(row, c), Rounded<T>(base.Value(row, c)), row, c);
            continue;
          }
          double part = 0, magnitudes = 0;
          for (int r = 0; r < own->rank; ++r) {
            const double term =
                hidden.Value(row, own->hidden_column + r) * adapters.b[of_slice].Value(c, r);
            part += term, magnitudes += std::abs(term);
          }
          const double want = base.Value(row, c) + part;
          // A product and as many sums as there are terms; the base's sum.
          const double error = kStep * ((own->rank + 1) * magnitudes + std::abs(want));
          check.ExpectNear(y.Value(row, c), want, Bound<T>(want, error), row, c);
        }
      }
      check.ExpectCleanSurroundings(y);
    }
  });
}

TYPED_TEST(KernelTable, FinishInputGradient) {
  using T = TypeParam;
  ForAdapterShapes([&](const AdapterShape& shape) {
    Adapters<T> adapters = MakeAdapters<T>(shape, this->random_);
    const int64_t k = shape.features;
    auto base = this->Random(Matrix<float>(shape.rows, k, k + shape.gap, shape.offset));
    auto added = this->Random(Matrix<float>(shape.rows, k, k + shape.gap, 0));
    const bool has_adapters = shape.variant != 0;
    Matrix<T> dx(shape.rows, k, k + shape.gap, shape.offset);
    Check check("FinishInputGradient", kTypeName<T>, shape.rows, shape.begin, shape.segments, k,
                has_adapters, shape.gap, shape.offset);
    FinishInputGradient<T>(nullptr, adapters.Upload(), {shape.begin, shape.rows}, base.data(),
                           base.stride(), has_adapters ? added.data() : nullptr, added.stride(), k,
                           dx.data(), dx.stride());
    for (int64_t row = 0; row < shape.rows; ++row) {
      const SegmentRows* segment = has_adapters ? adapters.SegmentOf(shape.begin + row) : nullptr;
      for (int64_t c = 0; c < k; ++c) {
        if (segment == nullptr || segment->threshold == 0) {
          check.ExpectExact(dx.At(row, c), Rounded<T>(base.Value(row, c)), row, c);
          continue;
        }
        const double own = added.Value(row, c) * adapters.Factor(*segment, shape.begin + row, c);
        const double want = base.Value(row, c) + own;
        // A product and a sum.
        const double bound = Bound<T>(want, kStep * (std::abs(own) + std::abs(want)));
        check.ExpectNear(dx.Value(row, c), want, bound, row, c);
      }
    }
    check.ExpectCleanSurroundings(dx);
  });
}

// ---- Attention

constexpr int kLargestRows = 150;  // More than a tile of queries, and two of keys.

struct AttentionShape {
  int64_t rows;       // Queries of all spans, and of none.
  int64_t more_keys;  // Than queries, of each span.
  int head_dim;
  int query_heads, kv_heads;
  bool causal;
  int spans;  // 17: among them one without queries, and one without both.
  float scale;
};

// Random numbers for one shape.
template <typename T>
struct AttentionCase {
  AttentionCase(const AttentionShape& shape, std::mt19937_64& random)
      : spans(SpansOf(shape, random)),
        query_rows(spans.back().query_end + 2),
        key_rows(spans.back().key_end + 3),
        q(query_rows, shape.query_heads * shape.head_dim),
        k(key_rows, shape.kv_heads * shape.head_dim),
        v(key_rows, shape.kv_heads * shape.head_dim),
        dout(query_rows, shape.query_heads * shape.head_dim) {
    arguments = {.query_heads = shape.query_heads,
                 .kv_heads = shape.kv_heads,
                 .head_dim = shape.head_dim,
                 .scale = shape.scale,
                 .spans = spans.data(),
                 .causal = shape.causal};
    for (Matrix<T>* matrix : {&q, &k, &v, &dout}) matrix->FillRandom(random);
    group = shape.query_heads / shape.kv_heads;
  }

  static std::vector<Span> SpansOf(const AttentionShape& shape, std::mt19937_64& random) {
    std::vector<Span> spans;
    int32_t query = 0, key = 1;  // The first key is of no span.
    for (int s = 0; s < shape.spans; ++s) {
      auto queries =
          static_cast<int32_t>(shape.rows / shape.spans + (s < shape.rows % shape.spans ? 1 : 0));
      auto keys = static_cast<int32_t>(queries + shape.more_keys * (s % 3 == 0 ? 1 : 0));
      if (shape.spans == 17 && s == 5) queries = 0, keys = 3;
      if (shape.spans == 17 && s == 9) queries = 0, keys = 0;
      spans.push_back({query, query + queries, key, key + keys});
      // Rows of no span between some of them.
      query += queries + (s % 4 == 1 ? 1 : 0);
      key += keys + static_cast<int32_t>(random() % 2);
    }
    return spans;
  }

  int Seen(const Span& span, int query) const {  // `query` counts from the span's first.
    const int keys = span.key_end - span.key_begin, queries = span.query_end - span.query_begin;
    return arguments.causal ? keys - (queries - 1 - query) : keys;
  }
  // Of head hx of row x and head hy of row y; `absolute`, of the absolute values.
  double Dot(const Matrix<T>& a, int64_t x, int hx, const Matrix<T>& b, int64_t y, int hy,
             double* absolute) const {
    double sum = 0;
    *absolute = 0;
    for (int c = 0; c < arguments.head_dim; ++c) {
      const double product =
          a.Value(x, hx * arguments.head_dim + c) * b.Value(y, hy * arguments.head_dim + c);
      sum += product;
      *absolute += std::abs(product);
    }
    return sum;
  }
  std::vector<bool> QueriesOfSpans() const {
    std::vector<bool> of_span(query_rows);
    for (const Span& span : spans) {
      std::fill(of_span.begin() + span.query_begin, of_span.begin() + span.query_end, true);
    }
    return of_span;
  }
  std::vector<bool> KeysOfSpans() const {
    std::vector<bool> of_span(key_rows);
    for (const Span& span : spans) {
      std::fill(of_span.begin() + span.key_begin, of_span.begin() + span.key_end, true);
    }
    return of_span;
  }

  AttentionArguments arguments;
  std::vector<Span> spans;
  int64_t query_rows, key_rows;
  Matrix<T> q, k, v, dout;
  int group;
};

// The scores of one query and head with the keys that it sees, in f64.
struct Scores {
  std::vector<double> score, absolute;  // Sums of absolute products, times scale.
  double top = -kInfinity, lse = -kInfinity;
  double largest = 0, largest_absolute = 0;
};

template <typename T>
Scores ScoresOf(const AttentionCase<T>& test, const Span& span, int query, int head) {
  Scores scores;
  for (int j = 0; j < test.Seen(span, query); ++j) {
    double absolute;
    const double dot = test.Dot(test.q, span.query_begin + query, head, test.k, span.key_begin + j,
                                head / test.group, &absolute);
    scores.score.push_back(dot * test.arguments.scale);
    scores.absolute.push_back(absolute * test.arguments.scale);
    scores.top = std::max(scores.top, scores.score.back());
    scores.largest = std::max(scores.largest, std::abs(scores.score.back()));
    scores.largest_absolute = std::max(scores.largest_absolute, scores.absolute.back());
  }
  double sum = 0;
  for (const double score : scores.score) sum += std::exp(score - scores.top);
  if (sum > 0) scores.lse = scores.top + std::log(sum);
  return scores;
}

struct ForwardResult {
  std::vector<double> want, bound;          // Like out.
  std::vector<double> lse_want, lse_bound;  // Like lse.
};

// `rounds_p`: probabilities are rounded to bf16.
template <typename T>
ForwardResult WantForward(const AttentionCase<T>& test, bool rounds_p) {
  constexpr double kKeysAtATime = 32;  // Or more: then the sums so far are corrected.
  const int heads = test.arguments.query_heads, d = test.arguments.head_dim;
  ForwardResult result;
  result.want.resize(test.query_rows * heads * d);
  result.bound.resize(result.want.size());
  result.lse_want.resize(test.query_rows * heads);
  result.lse_bound.resize(result.lse_want.size());
  for (const Span& span : test.spans) {
    for (int query = 0; query < span.query_end - span.query_begin; ++query) {
      for (int head = 0; head < heads; ++head) {
        const Scores scores = ScoresOf(test, span, query, head);
        const auto seen = static_cast<double>(scores.score.size());
        // A score is a sum of d products; twice it, or its distance from another, is rounded in the
        // scale, log2(e), the difference from the largest and the corrections: 8. exp: 4.
        const double p_error = kStep * (d * scores.largest_absolute + 8 * scores.largest + 8);
        // Terms of a sum: additions, and a correction's exp and product for each step.
        const double sum_error = kStep * (seen + 6 * std::ceil(seen / kKeysAtATime));
        const int64_t number = (span.query_begin + query) * heads + head;
        result.lse_want[number] = scores.lse;
        result.lse_bound[number] =
            kSecondOrder * (p_error + sum_error +
                            4 * kStep * (std::abs(scores.lse) + std::log(seen) + scores.largest));
        std::vector<double> sums(d), absolute(d);
        for (int j = 0; j < seen; ++j) {
          const double p = std::exp(scores.score[j] - scores.lse);
          for (int c = 0; c < d; ++c) {
            const double value = test.v.Value(span.key_begin + j, head / test.group * d + c);
            sums[c] += p * value;
            absolute[c] += p * std::abs(value);
          }
        }
        for (int c = 0; c < d; ++c) {
          // Numerator and denominator; the quotient is an inverse and a product.
          const double relative =
              2 * (p_error + sum_error) + 2 * kStep + (rounds_p ? kRoundOff<Bf16> : 0);
          const double tiny = seen * kTiny * 10;
          result.want[number * d + c] = sums[c];
          result.bound[number * d + c] = Bound<T>(sums[c], absolute[c] * relative + tiny);
        }
      }
    }
  }
  return result;
}

// Compares rows of spans; others must be untouched.
template <typename T>
void ExpectAsWanted(const Matrix<T>& got, const std::vector<bool>& of_span,
                    const std::vector<double>& want, const std::vector<double>& bound,
                    Check* check) {
  for (int64_t row = 0; row < got.rows(); ++row) {
    for (int64_t c = 0; c < got.columns(); ++c) {
      if (!of_span[row]) {
        check->ExpectUntouched(got, row, c);
      } else {
        const int64_t at = row * got.columns() + c;
        check->ExpectNear(got.Value(row, c), want[at], bound[at], row, c);
      }
    }
  }
  check->ExpectCleanSurroundings(got);
}

template <typename T>
bool TakenByTensorCores(int head_dim) {
  return kIsBf16<T> && head_dim % 8 == 0;
}
template <typename T>
std::string AttentionKernel(const std::string& what, int head_dim) {
  return absl::StrCat("attention ", what,
                      TakenByTensorCores<T>(head_dim) ? ", tensor cores" : ", plain");
}

std::string SizesText(const AttentionShape& shape) {
  return absl::StrCat(shape.rows, " queries, ", shape.more_keys, " more keys, head_dim ",
                      shape.head_dim, ", heads ", shape.query_heads, "/", shape.kv_heads,
                      shape.causal ? ", causal, " : ", ", shape.spans, " spans, scale ",
                      shape.scale);
}

// Heads of each width of tile on tensor cores, and some that they do not take.
template <typename T, typename Run>
void ForAttentionShapes(Run run) {
  const std::vector<int> head_dims = kIsBf16<T>
                                         ? std::vector<int>{8, 24, 64, 80, 128, 160, 256, 1, 20, 33}
                                         : std::vector<int>{1, 20, 33, 64, 256};
  constexpr int64_t kQueries[] = {1, 31, 33, 128, kLargestRows};
  constexpr int64_t kMoreKeys[] = {0, 7, 70};
  constexpr int kHeads[][2] = {{1, 1}, {2, 2}, {4, 2}};
  constexpr int kSpans[] = {1, 2, 17};
  const int head_dim_count = static_cast<int>(head_dims.size());
  ForEachPairwise<8>({head_dim_count, 5, 3, 3, 2, 3, 2, 3}, [&](const std::array<int, 8>& choice) {
    const int head_dim = head_dims[choice[0]];
    SetThreadOrder(kOrders[choice[7]]);
    run(AttentionShape{
        .rows = kQueries[choice[1]],
        .more_keys = kMoreKeys[choice[2]],
        .head_dim = head_dim,
        .query_heads = kHeads[choice[3]][0],
        .kv_heads = kHeads[choice[3]][1],
        .causal = choice[4] == 0,
        .spans = kSpans[choice[5]],
        .scale = choice[6] == 0 ? 1 / std::sqrt(static_cast<float>(head_dim)) : 0.5f});
  });
  SetThreadOrder(ThreadOrder::kForward);
}

TYPED_TEST(KernelTable, AttentionForward) {
  using T = TypeParam;
  int number = 0;
  ForAttentionShapes<T>([&](const AttentionShape& shape) {
    AttentionCase<T> test(shape, this->random_);
    // A value that is not finite reaches the queries that see its key, in its column.
    const Span& span = test.spans[0];
    if (++number % 2 == 0 && span.key_begin < span.key_end) {
      // Of the last key, or of one that the first step of the first queries has.
      const int key =
          number % 4 == 0 ? span.key_end - 1 : std::min(span.key_begin + 40, span.key_end - 1);
      test.v.Set(key, shape.head_dim / 2, number % 8 < 4 ? kNaN : kInfinity);
    }
    for (Matrix<T>* matrix : {&test.q, &test.k, &test.v}) matrix->Input();
    const bool tensor_cores = TakenByTensorCores<T>(shape.head_dim);
    const ForwardResult want = WantForward(test, tensor_cores);
    const std::vector<Piece> pieces = QueryPieces(test.spans, shape.causal);
    Matrix<T> out(test.query_rows, test.q.columns());
    Matrix<float> lse(test.query_rows, shape.query_heads);
    const bool keeps_lse = number % 3 != 0;
    Check check(AttentionKernel<T>("forward", shape.head_dim), kTypeName<T>, SizesText(shape));
    AttentionForward<T>(nullptr, test.arguments, pieces.data(), std::ssize(pieces), test.q.data(),
                        test.k.data(), test.v.data(), out.data(), keeps_lse ? lse.data() : nullptr);
    ExpectAsWanted(out, test.QueriesOfSpans(), want.want, want.bound, &check);
    const std::vector<bool> kept =
        keeps_lse ? test.QueriesOfSpans() : std::vector<bool>(test.query_rows);
    ExpectAsWanted(lse, kept, want.lse_want, want.lse_bound, &check);
  });
}

TYPED_TEST(KernelTable, AttentionDecode) {
  using T = TypeParam;
  constexpr int kHeadDims[] = {1, 8, 33, 64, 128, 160, 256};
  constexpr int64_t kMoreKeys[] = {0, 31, 127, 256, 700};
  constexpr int kHeads[][2] = {{1, 1}, {6, 2}, {11, 1}};  // Up to 8 heads to a block.
  ForEachPairwise<7>({7, 5, 3, 2, 2, 2, 3}, [&](const std::array<int, 7>& choice) {
    const AttentionShape shape = {.rows = choice[3] == 0 ? 1 : 18,
                                  .more_keys = kMoreKeys[choice[1]],
                                  .head_dim = kHeadDims[choice[0]],
                                  .query_heads = kHeads[choice[2]][0],
                                  .kv_heads = kHeads[choice[2]][1],
                                  .causal = choice[4] == 0,
                                  .spans = choice[3] == 0 ? 1 : 17,
                                  .scale = 0.3f};
    SetThreadOrder(kOrders[choice[6]]);
    AttentionCase<T> test(shape, this->random_);
    for (Matrix<T>* matrix : {&test.q, &test.k, &test.v}) matrix->Input();
    const ForwardResult want = WantForward(test, /*rounds_p=*/false);
    const std::vector<Piece> queries = SingleQueries(test.spans, shape.causal);
    const int64_t longest = LongestKeys(test.spans) + (choice[5] == 0 ? 0 : 300);
    Matrix<float> scratch(
        DecodeScratchBytes(std::ssize(queries), longest, shape.query_heads, shape.head_dim) / 4, 1);
    Matrix<T> out(test.query_rows, test.q.columns());
    Matrix<float> lse(test.query_rows, shape.query_heads);
    const bool keeps_lse = choice[5] == 0;
    Check check("attention decode", kTypeName<T>, SizesText(shape));
    AttentionDecode<T>(nullptr, test.arguments, queries.data(), std::ssize(queries), longest,
                       test.q.data(), test.k.data(), test.v.data(), out.data(),
                       keeps_lse ? lse.data() : nullptr, scratch.data());
    ExpectAsWanted(out, test.QueriesOfSpans(), want.want, want.bound, &check);
    const std::vector<bool> kept =
        keeps_lse ? test.QueriesOfSpans() : std::vector<bool>(test.query_rows);
    ExpectAsWanted(lse, kept, want.lse_want, want.lse_bound, &check);
    check.ExpectCleanSurroundings(scratch);
  });
  SetThreadOrder(ThreadOrder::kForward);
}

struct BackwardResult {
  std::vector<double> delta, delta_bound, dq, dq_bound, dk, dk_bound, dv, dv_bound;
};

// From `out` and `lse` as they were given to the kernels.
template <typename T>
BackwardResult WantBackward(const AttentionCase<T>& test, const Matrix<T>& out,
                            const Matrix<float>& lse, bool rounds) {
  const int heads = test.arguments.query_heads, kv_heads = test.arguments.kv_heads;
  const int d = test.arguments.head_dim;
  const double scale = test.arguments.scale;
  const double u = rounds ? kRoundOff<Bf16> : 0;
  BackwardResult result;
  for (auto* like_delta : {&result.delta, &result.delta_bound}) {
    like_delta->resize(test.query_rows * heads);
  }
  for (auto* like_q : {&result.dq, &result.dq_bound}) like_q->resize(test.query_rows * heads * d);
  for (auto* like_k : {&result.dk, &result.dk_bound, &result.dv, &result.dv_bound}) {
    like_k->resize(test.key_rows * kv_heads * d);
  }
  for (const Span& span : test.spans) {
    const int queries = span.query_end - span.query_begin;
    for (int query = 0; query < queries; ++query) {
      const int64_t row = span.query_begin + query;
      for (int head = 0; head < heads; ++head) {
        const Scores scores = ScoresOf(test, span, query, head);
        const int kv_head = head / test.group;
        double absolute;
        const double delta = test.Dot(test.dout, row, head, out, row, head, &absolute);
        // A lane's terms, then a tree of 32.
        const double delta_error = kStep * (std::ceil(d / 32.0) + 1 + 5) * absolute;
        result.delta[row * heads + head] = delta;
        result.delta_bound[row * heads + head] = kSecondOrder * delta_error + kTiny;
        const double row_lse = lse.Value(row, head);
        for (int j = 0; j < std::ssize(scores.score); ++j) {
          const int64_t key = span.key_begin + j;
          const double p = std::exp(scores.score[j] - row_lse);
          // A sum of d products; the score and lse in the scale, log2(e) and their difference. exp.
          const double p_error = p * kStep *
                                     (d * scores.absolute[j] + 3 * std::abs(scores.score[j]) +
                                      3 * std::abs(row_lse) + 4) +
                                 kTiny;
          double dp_absolute;
          const double dp =
              test.Dot(test.dout, row, head, test.v, key, kv_head, &dp_absolute) - delta;
          const double ds = p * dp;
          // dp is a sum of d products; a difference and a product.
          const double ds_error = p_error * std::abs(dp) +
                                  p * (kStep * d * dp_absolute + delta_error) +
                                  2 * kStep * std::abs(ds);
          // Sums: of keys, or of queries of the group's heads.
          const double dq_term = ds_error + (u + kStep * (scores.score.size() + 1)) * std::abs(ds);
          const double n = kStep * (test.group * queries + 1);
          const double dk_term = ds_error + (u + n) * std::abs(ds);
          const double dv_term = p_error + (u + n) * p;
          for (int c = 0; c < d; ++c) {
            const int64_t q_at = (row * heads + head) * d + c;
            const int64_t k_at = (key * kv_heads + kv_head) * d + c;
            const double q = test.q.Value(row, head * d + c);
            const double k = test.k.Value(key, kv_head * d + c);
            const double dout = test.dout.Value(row, head * d + c);
            result.dq[q_at] += scale * ds * k;
            result.dq_bound[q_at] += scale * dq_term * std::abs(k);
            result.dk[k_at] += scale * ds * q;
            result.dk_bound[k_at] += scale * dk_term * std::abs(q);
            result.dv[k_at] += p * dout;
            result.dv_bound[k_at] += dv_term * std::abs(dout);
          }
        }
      }
    }
  }
  const auto finish = [](const std::vector<double>& want, std::vector<double>* bound) {
    for (size_t i = 0; i < want.size(); ++i) {
      if ((*bound)[i] > 0) (*bound)[i] = Bound<T>(want[i], (*bound)[i]) + kTiny;
    }
  };
  finish(result.dq, &result.dq_bound);
  finish(result.dk, &result.dk_bound);
  finish(result.dv, &result.dv_bound);
  return result;
}

TYPED_TEST(KernelTable, AttentionBackward) {
  using T = TypeParam;
  ForAttentionShapes<T>([&](const AttentionShape& shape) {
    AttentionCase<T> test(shape, this->random_);
    const bool tensor_cores = TakenByTensorCores<T>(shape.head_dim);
    const ForwardResult forward = WantForward(test, tensor_cores);
    Matrix<T> out(test.query_rows, test.q.columns());
    Matrix<float> lse(test.query_rows, shape.query_heads);
    const std::vector<bool> queries = test.QueriesOfSpans(), keys = test.KeysOfSpans();
    for (int64_t row = 0; row < test.query_rows; ++row) {
      if (!queries[row]) continue;
      for (int64_t c = 0; c < out.columns(); ++c) {
        out.Set(row, c, forward.want[row * out.columns() + c]);
      }
      for (int head = 0; head < shape.query_heads; ++head) {
        lse.Set(row, head, forward.lse_want[row * shape.query_heads + head]);
      }
    }
    for (Matrix<T>* matrix : {&test.q, &test.k, &test.v, &test.dout, &out}) matrix->Input();
    lse.Input();
    const BackwardResult want = WantBackward(test, out, lse, tensor_cores);
    const std::vector<Piece> query_pieces = QueryPieces(test.spans, shape.causal);
    const std::vector<Piece> key_pieces = KeyPieces(test.spans, shape.causal);
    Matrix<float> delta(test.query_rows, shape.query_heads);
    Matrix<T> dq(test.query_rows, test.q.columns());
    Matrix<T> dk(test.key_rows, test.k.columns()), dv(test.key_rows, test.k.columns());
    AttentionBackward<T>(nullptr, test.arguments, query_pieces.data(), std::ssize(query_pieces),
                         key_pieces.data(), std::ssize(key_pieces), test.q.data(), test.k.data(),
                         test.v.data(), out.data(), lse.data(), test.dout.data(), delta.data(),
                         dq.data(), dk.data(), dv.data());
    const std::string sizes = SizesText(shape);
    Check check_delta("attention delta", kTypeName<T>, sizes);
    ExpectAsWanted(delta, queries, want.delta, want.delta_bound, &check_delta);
    Check check_dq(AttentionKernel<T>("dQ", shape.head_dim), kTypeName<T>, sizes);
    ExpectAsWanted(dq, queries, want.dq, want.dq_bound, &check_dq);
    Check check_dkdv(AttentionKernel<T>("dK and dV", shape.head_dim), kTypeName<T>, sizes);
    ExpectAsWanted(dk, keys, want.dk, want.dk_bound, &check_dkdv);
    ExpectAsWanted(dv, keys, want.dv, want.dv_bound, &check_dkdv);
  });
}

}  // namespace
}  // namespace deltaworks::trainer::cuda

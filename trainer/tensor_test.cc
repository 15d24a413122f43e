#include "trainer/tensor.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

TEST(BFloat16Test, RoundsToNearestEven) {
  // 1 + 2^-8 lies half way between 1 and 1 + 2^-7: the even one is 1.
  EXPECT_EQ(static_cast<float>(BFloat16(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(static_cast<float>(BFloat16(1.0f + 0x1p-7f + 0x1p-8f)), 1.0f + 0x1p-6f);
  EXPECT_EQ(static_cast<float>(BFloat16(1.0f + 0x1p-8f + 0x1p-20f)), 1.0f + 0x1p-7f);
}

TEST(BFloat16Test, SpecialValuesSurvive) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(static_cast<float>(BFloat16(-infinity)), -infinity);
  EXPECT_EQ(static_cast<float>(BFloat16(3.4e38f)), infinity);
  EXPECT_TRUE(std::signbit(static_cast<float>(BFloat16(-0.0f))));
  uint32_t word = 0x7f800001u;  // A NaN whose payload lies in the half that is cut off.
  float nan;
  std::memcpy(&nan, &word, sizeof(nan));
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(nan))));
}

TEST(Float8E4M3Test, EveryCodeIsItsOwnValueAndHalfWayGoesToTheEvenOne) {
  for (int bits = 0; bits < 256; ++bits) {
    Float8E4M3 code;
    code.bits = static_cast<uint8_t>(bits);
    const float value = static_cast<float>(code);
    if ((bits & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      continue;
    }
    EXPECT_EQ(int{Float8E4M3(value).bits}, bits) << value;
    // 4 bits of exponent with bias 7, 3 of mantissa.
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    const float want =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    EXPECT_EQ(std::abs(value), want) << bits;
    if ((bits & 0x7f) == 0x7e) continue;
    code.bits = static_cast<uint8_t>(bits + 1);
    const float middle = (value + static_cast<float>(code)) / 2;
    EXPECT_EQ(int{Float8E4M3(middle).bits}, bits + bits % 2) << middle;
    EXPECT_EQ(int{Float8E4M3(std::nextafter(middle, value)).bits}, bits) << middle;
    EXPECT_EQ(int{Float8E4M3(std::nextafter(middle, static_cast<float>(code))).bits}, bits + 1);
  }
}

TEST(Float8E4M3Test, WhatIsTooLargeBecomesTheLargest) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float large : {448.0f, 464.0f, 480.0f, 1e30f, infinity}) {
    EXPECT_EQ(static_cast<float>(Float8E4M3(large)), 448);
    EXPECT_EQ(static_cast<float>(Float8E4M3(-large)), -448);
  }
  EXPECT_TRUE(std::isnan(static_cast<float>(Float8E4M3(std::nanf("")))));
  EXPECT_EQ(int{Float8E4M3(-1e-30f).bits}, 0x80);
}

TEST(DTypeTest, NamesAndSizesAreThoseOfSafetensors) {
  EXPECT_EQ(DTypeFromName("BF16"), DType::kBF16);
  EXPECT_EQ(DTypeFromName("bf16"), std::nullopt);
  EXPECT_EQ(SizeOf(DType::kBF16), 2);
  EXPECT_EQ(SizeOf(DType::kF64), 8);
  EXPECT_EQ(SizeOf(DType::kF8E4M3), 1);
  EXPECT_EQ(NameOf(DType::kF8E4M3), "F8_E4M3");
  EXPECT_EQ(DTypeFromName("F8_E4M3"), std::nullopt);
}

TEST(TensorViewTest, KnowsItsSize) {
  float data[6] = {0, 1, 2, 3, 4, 5};
  const TensorView view{data, DType::kF32, {2, 3}};
  EXPECT_EQ(view.elements(), 6);
  EXPECT_EQ(view.bytes(), 24);
  EXPECT_EQ(ConstTensorView(view).as<const float>()[5], 5.0f);
  EXPECT_EQ(ShapeText(view.shape), "[2, 3]");
}

}  // namespace
}  // namespace deltaworks::trainer

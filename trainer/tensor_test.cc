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

TEST(DTypeTest, NamesAndSizesAreThoseOfSafetensors) {
  EXPECT_EQ(DTypeFromName("BF16"), DType::kBF16);
  EXPECT_EQ(DTypeFromName("bf16"), std::nullopt);
  EXPECT_EQ(SizeOf(DType::kBF16), 2);
  EXPECT_EQ(SizeOf(DType::kF64), 8);
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

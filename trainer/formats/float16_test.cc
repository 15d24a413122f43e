// Every half is a float, so all 65,536 can be checked against the definition.

#include "trainer/formats/float16.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

TEST(Float16Test, EveryFiniteHalfHasTheValueOfItsDefinition) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const int exponent = (bits >> 10) & 31;
    const int fraction = bits & 1023;
    if (exponent == 31) continue;
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    const float value = FloatFromHalf(static_cast<uint16_t>(bits));
    ASSERT_EQ(value, (bits & 0x8000) != 0 ? -magnitude : magnitude) << bits;
    ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0) << bits;
  }
}

TEST(Float16Test, InfinityAndNanStayWhatTheyAre) {
  EXPECT_EQ(FloatFromHalf(0x7c00), std::numeric_limits<float>::infinity());
  EXPECT_EQ(FloatFromHalf(0xfc00), -std::numeric_limits<float>::infinity());
  for (int fraction = 1; fraction < 1024; ++fraction) {
    ASSERT_TRUE(std::isnan(FloatFromHalf(static_cast<uint16_t>(0x7c00 | fraction))));
  }
}

}  // namespace
}  // namespace deltaworks::trainer

#include "trainer/base/utf8_prefix.h"

#include "gtest/gtest.h"

namespace deltaworks {
namespace {

TEST(Utf8PrefixTest, ATextWithinTheBoundIsWhole) {
  EXPECT_EQ(Utf8Prefix("", 0), "");
  EXPECT_EQ(Utf8Prefix("abc", 3), "abc");
}

TEST(Utf8PrefixTest, ACharacterIsKeptWholeOrLeftOut) {
  const absl::string_view euro =
      "a\xE2\x82\xAC"
      "b";
  EXPECT_EQ(Utf8Prefix(euro, 1), "a");
  EXPECT_EQ(Utf8Prefix(euro, 2), "a");
  EXPECT_EQ(Utf8Prefix(euro, 3), "a");
  EXPECT_EQ(Utf8Prefix(euro, 4), "a\xE2\x82\xAC");
}

}  // namespace
}  // namespace deltaworks

#include "trainer/base/json.h"

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks {
namespace {

using ::testing::HasSubstr;

TEST(JsonTest, FieldsAreReadByType) {
  auto json = ParseJson(R"({"n": 3, "x": 0.5, "b": true, "s": "text", "none": null})", "test");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(*JsonInt(*json, "n", "test"), 3);
  EXPECT_EQ(*JsonDouble(*json, "x", "test"), 0.5);
  EXPECT_EQ(*JsonDouble(*json, "n", "test"), 3.0);
  EXPECT_TRUE(*JsonBool(*json, "b", "test"));
  EXPECT_EQ(*JsonString(*json, "s", "test"), "text");
  EXPECT_FALSE(JsonHas(*json, "none"));
  EXPECT_FALSE(JsonHas(*json, "absent"));
}

TEST(JsonTest, AnErrorTellsSubjectGotAndWant) {
  auto json = ParseJson(R"({"hidden_size": "576"})", "config.json");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(JsonInt(*json, "hidden_size", "config.json").status().message(),
            "config.json: hidden_size is \"576\", want an integer");
  EXPECT_EQ(JsonInt(*json, "depth", "config.json").status().message(),
            "config.json: depth is absent, want an integer");
  EXPECT_FALSE(JsonInt(*ParseJson("[1]", "x"), "n", "x").ok());
}

TEST(JsonTest, ANumberAboveInt64IsNotAnInteger) {
  auto json = ParseJson(R"({"n": 18446744073709551615})", "test");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_TRUE(absl::IsInvalidArgument(JsonInt(*json, "n", "test").status()));
}

TEST(JsonTest, BrokenTextTellsTheByte) {
  const auto json = ParseJson(R"({"n": })", "line 3");
  EXPECT_TRUE(absl::IsInvalidArgument(json.status()));
  EXPECT_THAT(std::string(json.status().message()), HasSubstr("line 3: not JSON at byte 7"));
  EXPECT_FALSE(ParseJson("", "x").ok());
  EXPECT_FALSE(ParseJson("{} {}", "x").ok());
}

TEST(JsonTest, DeepNestingIsRefused) {
  EXPECT_TRUE(ParseJson(std::string(100, '[') + std::string(100, ']'), "x").ok());
  const auto json = ParseJson(std::string(101, '[') + std::string(101, ']'), "x");
  EXPECT_EQ(json.status().message(), "x: JSON nested deeper than 100 levels");
}

}  // namespace
}  // namespace deltaworks

// A YAML text is somebody's file: what is in it arrives with its line, and what would unfold,
// nest or repeat itself is refused with the line where it began to.

#include "services/cli/yaml_document.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Kind = YamlNode::Kind;

YamlNode Parsed(const std::string& text) {
  const auto root = ParseYaml(text, "x.yaml");
  EXPECT_TRUE(root.ok()) << root.status();
  return root.ok() ? *root : YamlNode();
}

std::string ErrorOf(const std::string& text) {
  return std::string(ParseYaml(text, "x.yaml").status().message());
}

// Of the scalar that is the whole text.
std::string JsonOf(const std::string& text) { return JsonText(ScalarJson(Parsed(text))); }

TEST(YamlDocumentTest, KeysValuesAndListsComeWithTheirLines) {
  const YamlNode root = Parsed("# remark\na: 1\nb:\n  - x\n  -\n    c: y\nd: ~\n");
  ASSERT_EQ(root.kind, Kind::kMap);
  ASSERT_EQ(root.children.size(), 3);
  EXPECT_EQ(root.children[0].key, "a");
  EXPECT_EQ(root.children[0].text, "1");
  EXPECT_EQ(root.children[0].line, 2);
  const YamlNode& list = root.children[1];
  ASSERT_EQ(list.kind, Kind::kList);
  EXPECT_EQ(list.line, 3) << "of its key";
  ASSERT_EQ(list.children.size(), 2);
  EXPECT_EQ(list.children[0].line, 4);
  EXPECT_EQ(list.children[1].children.at(0).key, "c");
  EXPECT_EQ(list.children[1].children.at(0).line, 6);
  EXPECT_EQ(root.children[2].kind, Kind::kNull);
  EXPECT_EQ(Parsed("").kind, Kind::kNull);
}

TEST(YamlDocumentTest, JsonIsYamlTabsAndWindowsLinesToo) {
  const YamlNode root =
      Parsed("{\r\n\t\"a\": [1, \"x\\/\\u00e9\\n\"],\r\n\t\"b\":{\"c\":null}\r\n}");
  ASSERT_EQ(root.children.size(), 2);
  EXPECT_EQ(root.children[0].children.at(1).text, "x/é\n");
  EXPECT_TRUE(root.children[0].children.at(1).quoted);
  EXPECT_EQ(root.children[1].children.at(0).kind, Kind::kNull);
  EXPECT_EQ(root.children[1].line, 3);
}

TEST(YamlDocumentTest, ScalarsKeepTheirTextAndHaveTheCoreSchemasValue) {
  EXPECT_EQ(Parsed("007").text, "007");
  const std::pair<const char*, const char*> kCases[] = {
      {"007", "7"},
      {"-3", "-3"},
      {"+3", "3"},
      {"0x1F", "31"},
      {"0o17", "15"},
      {"1e3", "1000.0"},
      {"2e-4", "0.0002"},
      {".5", "0.5"},
      {"true", "true"},
      {"False", "false"},
      {"TRUE", "true"},
      {"tRUE", "\"tRUE\""},
      {"yes", "\"yes\""},
      {"no", "\"no\""},
      {"1:30", "\"1:30\""},
      {"1_000", "\"1_000\""},
      {"'1'", "\"1\""},
      {"\"true\"", "\"true\""},
      {"inf", "\"inf\""},
      {"-.inf", "\"-Infinity\""},
      {".nan", "\"NaN\""},
      {"0x", "\"0x\""},
      {"0o8", "\"0o8\""},
      {"e5", "\"e5\""},
      {"1e999", "\"1e999\""},
      {"18446744073709551615", "18446744073709551615"},
  };
  for (const auto& [text, json] : kCases) EXPECT_EQ(JsonOf(text), json) << text;
}

TEST(YamlDocumentTest, WhatIsNoYamlIsRefusedWithItsLine) {
  EXPECT_THAT(ErrorOf("a: 1\nb: [1, 2\nc: 3\n"), StartsWith("x.yaml:"));
  EXPECT_THAT(ErrorOf("a: 1\n b: 2\n"), StartsWith("x.yaml:2: no YAML: "));
  EXPECT_THAT(ErrorOf("a: 1\nb: x\xff\n"), StartsWith("x.yaml:2: a byte that is not UTF-8"));
  EXPECT_THAT(ErrorOf("a: \"\\ud83d\\ude00\"\n"), StartsWith("x.yaml:1: no YAML: "));
}

TEST(YamlDocumentTest, AKeyTwiceIsRefusedInBlocksAndInBraces) {
  EXPECT_EQ(ErrorOf("a: 1\nb: 2\na: 3\n"), "x.yaml:3: the key \"a\" is there twice");
  EXPECT_EQ(ErrorOf("{a: 1, \"a\": 3}"), "x.yaml:1: the key \"a\" is there twice");
  EXPECT_EQ(Parsed("a: {a: 1}\nb: {a: 1}").children.size(), 2) << "each map has its own";
}

TEST(YamlDocumentTest, WhatHasAMeaningOfItsOwnIsRefused) {
  EXPECT_THAT(ErrorOf("a: &x 1\nb: *x\n"), StartsWith("x.yaml:1: anchors (&) and aliases (*)"));
  EXPECT_THAT(ErrorOf("a: &x [1]\n"), HasSubstr("anchors (&)"));
  EXPECT_THAT(ErrorOf("&x a: 1\n"), HasSubstr("anchors (&)"));
  EXPECT_THAT(ErrorOf("a: !!str 1\n"), HasSubstr("the tag \"tag:yaml.org,2002:str\" is not taken"));
  EXPECT_THAT(ErrorOf("? [a]\n: 1\n"), HasSubstr("a key is a list or a map, want a text"));
  EXPECT_THAT(ErrorOf("~: 1\n"), HasSubstr("a key is null, want a text"));
  EXPECT_THAT(ErrorOf("a: 1\n---\nb: 2\n"), StartsWith("x.yaml:3: a second document"));
}

TEST(YamlDocumentTest, AliasesThatUnfoldToBillionsAreRefusedAtOnce) {
  std::string text = "a0: &a0 [x, x]\n";
  for (int i = 1; i < 40; ++i) {
    absl::StrAppend(&text, "a", i, ": &a", i, " [*a", i - 1, ", *a", i - 1, "]\n");
  }
  EXPECT_THAT(ErrorOf(text), HasSubstr("anchors (&) and aliases (*) are not taken"));
}

TEST(YamlDocumentTest, DepthAndNumberOfValuesAreBounded) {
  const auto nested = [](int64_t depth) {
    return std::string(depth, '[') + "x" + std::string(depth, ']');
  };
  EXPECT_TRUE(ParseYaml(nested(kYamlDepthMax), "x").ok());
  EXPECT_EQ(ErrorOf(nested(kYamlDepthMax + 1)), "x.yaml:1: nested deeper than 64 levels");

  const auto list = [](int64_t count) {
    std::string text = "[";
    for (int64_t i = 0; i < count; ++i) text += "x,\n";
    return text + "]";
  };
  // The list is a value, too.
  EXPECT_EQ(Parsed(list(kYamlNodesMax - 1)).children.size(), kYamlNodesMax - 1);
  EXPECT_THAT(ErrorOf(list(kYamlNodesMax)), HasSubstr("more than 1000000 values"));
}

}  // namespace
}  // namespace deltaworks::services

// Patterns must find what Oniguruma finds or be refused. What they find in all of Unicode is
// compared in golden_test; here are the translation and the refusals.

#include "trainer/tokenizer/split_pattern.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Matches(absl::string_view regex, absl::string_view text) {
  const auto pattern = SplitPattern::Compile(regex);
  EXPECT_TRUE(pattern.ok()) << pattern.status();
  std::vector<TextRange> ranges;
  EXPECT_TRUE(pattern->FindMatches(text, &ranges).ok());
  std::vector<std::string> matches;
  for (const TextRange& range : ranges) {
    matches.emplace_back(text.substr(range.begin, range.end - range.begin));
  }
  return matches;
}

TEST(SplitPatternTest, WhiteSpaceIsUnicodes) {
  // U+180E is a space for PCRE2's own \s.
  EXPECT_THAT(Matches("\\s", "a\u180E\u2028\u0085"), ElementsAre("\u2028", "\u0085"));
  EXPECT_THAT(Matches("[^\\S\\n]+", " \n\u3000"), ElementsAre(" ", "\u3000"));
}

TEST(SplitPatternTest, LettersOfUnicode16AreLetters) {
  // U+31350 is Han since Unicode 15, U+11F04 Kawi, U+16D40 a modifier of Kirat Rai since 16.
  EXPECT_THAT(Matches("\\p{L}+", "a\U00031350\U00011F04\U00016D40."),
              ElementsAre("a\U00031350\U00011F04\U00016D40"));
  EXPECT_THAT(Matches("\\p{Han}+", "\u4E2D\U00031350\U00011F04"), ElementsAre("\u4E2D\U00031350"));
}

TEST(SplitPatternTest, AnchorsAreRubys) {
  EXPECT_THAT(Matches("^a", "a\na"), ElementsAre("a", "a"));
  EXPECT_THAT(Matches("a$", "a\nba"), ElementsAre("a", "a"));
}

TEST(SplitPatternTest, EscapesOfBothDialectsAreTranslated) {
  EXPECT_EQ(*TranslateOniguruma("\\u4e00\\x41\\x{1F600}\\v\\."),
            "\\x{4E00}\\x{41}\\x{1F600}\\x{0B}\\.");
  EXPECT_EQ(*TranslateOniguruma("(?i:'s|'t)|\\p{N}{1,3}|[^\\s\\p{L}]++"),
            "(?i:'s|'t)|\\p{N}{1,3}|[^\\p{White_Space}\\p{L}]++");
}

TEST(SplitPatternTest, WhatCouldMeanSomethingElseIsRefused) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\\w+", "\\w"},          {"a\\b", "\\b"},          {"[[:alpha:]]", "[ inside a class"},
      {"[a&&b]", "&&"},         {"(*UTF)a", "(*"},        {"(?i)a", "(?i"},
      {"(?<n>a)", "(?<"},       {"a{,3}", "{"},           {"a{2}+", "{2}+"},
      {"a{2}?", "{2}?"},        {"\\p{Greek}", "Greek"},  {"\\pL", "\\p"},
      {"\\p{^L}", "^L"},        {"\\x{}", "\\x{"},        {"\\xE9", "\\xE9"},
      {"a\\", "\\ at its end"}, {"[ab", "without its ]"}, {"[]a]", "begins with ]"},
      {"(?i:ss)", "ss"},        {"\\R", "\\R"},           {"\\1", "\\1"},
      {"\\K", "\\K"},           {"\\p{L", "\\p"},         {"\\u12", "\\u12"},
  };
  for (const auto& [regex, what] : cases) {
    const auto pattern = SplitPattern::Compile(regex);
    ASSERT_FALSE(pattern.ok()) << regex;
    EXPECT_THAT(pattern.status().message(), HasSubstr(what)) << regex;
    EXPECT_THAT(pattern.status().message(), HasSubstr("supported are")) << regex;
  }
}

TEST(SplitPatternTest, WhatDoesNotCompileOrMatchesNothingIsRefused) {
  EXPECT_THAT(SplitPattern::Compile("(a").status().message(), HasSubstr("does not compile"));
  EXPECT_THAT(SplitPattern::Compile("a*").status().message(), HasSubstr("can match nothing"));
  EXPECT_THAT(SplitPattern::Compile("").status().message(), HasSubstr("can match nothing"));
  EXPECT_THAT(SplitPattern::Compile("(?=a)").status().message(), HasSubstr("can match nothing"));
  EXPECT_THAT(SplitPattern::Compile(std::string(1 << 17, 'a')).status().message(),
              HasSubstr("want at most"));
}

TEST(SplitPatternTest, ALiteralMatchesItself) {
  const auto pattern = SplitPattern::Literal("a.[\\\xC3\xA9");
  ASSERT_TRUE(pattern.ok()) << pattern.status();
  std::vector<TextRange> ranges;
  ASSERT_TRUE(pattern->FindMatches("axa.[\\\xC3\xA9", &ranges).ok());
  ASSERT_EQ(ranges.size(), 1);
  EXPECT_EQ(ranges[0].begin, 2);
}

TEST(SplitPatternTest, APatternThatBacktracksWithoutEndIsStopped) {
  const auto pattern = SplitPattern::Compile("(?:a+a+)+b");
  ASSERT_TRUE(pattern.ok()) << pattern.status();
  std::vector<TextRange> ranges;
  const absl::Status status = pattern->FindMatches(std::string(60, 'a') + "cb", &ranges);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

TEST(SplitPatternTest, ALongRunNeedsNoStack) {
  const auto pattern = SplitPattern::Compile("(?:a|b)+");
  ASSERT_TRUE(pattern.ok()) << pattern.status();
  std::vector<TextRange> ranges;
  const std::string text(1 << 16, 'a');
  ASSERT_TRUE(pattern->FindMatches(text, &ranges).ok());
  ASSERT_EQ(ranges.size(), 1);
  EXPECT_EQ(ranges[0].end, text.size());
}

TEST(SplitPatternTest, ARunThatNeedsTooMuchMemoryIsAnError) {
  const auto pattern = SplitPattern::Compile("(?:a|b)+");
  ASSERT_TRUE(pattern.ok()) << pattern.status();
  std::vector<TextRange> ranges;
  const absl::Status status = pattern->FindMatches(std::string(4 << 20, 'a'), &ranges);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("heap limit"));
}

TEST(SplitPatternTest, NothingMatchesInNothing) { EXPECT_THAT(Matches("a", ""), IsEmpty()); }

}  // namespace
}  // namespace deltaworks::trainer

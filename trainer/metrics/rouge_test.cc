// The golden cases are the answers of Google's rouge-score package (testdata/make_golden.py). Both
// sides do the same divisions of small integers in double, so the numbers must be equal.

#include "trainer/metrics/rouge.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

void ExpectEqual(const RougeScore& score, const Json& golden) {
  EXPECT_EQ(score.precision, golden[0].get<double>());
  EXPECT_EQ(score.recall, golden[1].get<double>());
  EXPECT_EQ(score.f_measure, golden[2].get<double>());
}

TEST(RougeTest, EveryScoreIsThatOfTheRougeScorePackage) {
  const auto text = ReadFile("trainer/metrics/testdata/rouge.json");
  ASSERT_TRUE(text.ok()) << text.status();
  const auto golden = ParseJson(*text, "rouge.json");
  ASSERT_TRUE(golden.ok()) << golden.status();
  ASSERT_GE((*golden)["cases"].size(), 80);
  for (const Json& pair : (*golden)["cases"]) {
    SCOPED_TRACE(JsonText(pair));
    const RougeScores scores =
        Rouge(pair["reference"].get<std::string>(), pair["answer"].get<std::string>());
    ExpectEqual(scores.rouge1, pair["rouge1"]);
    ExpectEqual(scores.rouge2, pair["rouge2"]);
    ExpectEqual(scores.rouge_l, pair["rougeL"]);
  }
}

TEST(RougeTest, AWorkedExample) {
  // Common words: the, cat (2 of 3 and 2 of 4); common pairs: "the cat"; in order: the cat.
  const RougeScores scores = Rouge("the cat sat down", "the cat ran");
  EXPECT_DOUBLE_EQ(scores.rouge1.precision, 2.0 / 3);
  EXPECT_DOUBLE_EQ(scores.rouge1.recall, 2.0 / 4);
  EXPECT_DOUBLE_EQ(scores.rouge1.f_measure, 4.0 / 7);
  EXPECT_DOUBLE_EQ(scores.rouge2.precision, 1.0 / 2);
  EXPECT_DOUBLE_EQ(scores.rouge2.recall, 1.0 / 3);
  EXPECT_DOUBLE_EQ(scores.rouge_l.f_measure, 4.0 / 7);
}

TEST(RougeTest, ARepeatedWordCountsAsOftenAsBothHaveIt) {
  EXPECT_DOUBLE_EQ(Rouge("the the cat", "the the the").rouge1.precision, 2.0 / 3);
}

TEST(RougeTest, OrderMattersToTheLongestCommonSubsequenceOnly) {
  const RougeScores scores = Rouge("one two three", "three two one");
  EXPECT_EQ(scores.rouge1.f_measure, 1);
  EXPECT_DOUBLE_EQ(scores.rouge_l.f_measure, 1.0 / 3);
}

TEST(RougeTest, TextWithoutWordsScoresZero) {
  EXPECT_EQ(Rouge("", "").rouge1.f_measure, 0);
  EXPECT_EQ(Rouge("日本語", "日本語").rouge_l.f_measure, 0);
}

TEST(RougeWordsTest, WordsAreLowerCaseLettersAndDigits) {
  EXPECT_THAT(RougeWords("It's C++17, isn't it?"),
              ElementsAre("it", "s", "c", "17", "isn", "t", "it"));
  EXPECT_THAT(RougeWords(" \t\n"), IsEmpty());
}

TEST(RougeWordsTest, BytesThatAreNotUtf8SeparateWords) {
  EXPECT_THAT(RougeWords("a\xFF\xC4z\xE2\x84"), ElementsAre("a", "z"));
}

}  // namespace
}  // namespace deltaworks::trainer

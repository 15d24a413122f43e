// Small tokenizers, one per kind of tokenizer.json that is supported, against Hugging Face
// tokenizers: 650 odd lines for each, every code point of Unicode for some. variants.json holds the
// merge patch that makes each kind out of small/tokenizer.json.

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/tokenizer/golden_file.h"
#include "trainer/tokenizer/tokenizer.h"

namespace deltaworks::trainer {
namespace {

using ::testing::IsEmpty;

const char kFolder[] = "tests/golden/tokenizer/small/";

Json ReadJson(const std::string& name) {
  const auto text = ReadFile(kFolder + name);
  EXPECT_TRUE(text.ok()) << text.status();
  const auto json = ParseJson(*text, name);
  EXPECT_TRUE(json.ok()) << json.status();
  return *json;
}

class GoldenTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    Json file = ReadJson("tokenizer.json");
    file.merge_patch(ReadJson("variants.json").at(GetParam()));
    auto tokenizer = Tokenizer::Parse(JsonText(file), "");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }
  std::unique_ptr<const Tokenizer> tokenizer_;
};

TEST_P(GoldenTest, IdsAndTextsOfOddLinesAreThoseOfTheOriginal) {
  const auto report = CompareGolden(*tokenizer_, kFolder + GetParam() + ".golden");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->compared, 650);
  EXPECT_THAT(report->differences, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Variants, GoldenTest,
                         ::testing::Values("contiguous", "gpt2", "inverted", "llama3",
                                           "merged_next", "merged_previous", "o200k", "qwen2",
                                           "removed", "smollm"),
                         [](const auto& info) { return info.param; });

// The variants whose patterns ask for every kind of character.
class SweepTest : public GoldenTest {};

TEST_P(SweepTest, EveryCodePointIsCutAsTheOriginalCutsIt) {
  const auto report = CompareSweep(*tokenizer_, kFolder + GetParam() + ".sweep");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->compared, 0x110000 / 1024);
  EXPECT_THAT(report->differences, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Variants, SweepTest,
                         ::testing::Values("gpt2", "llama3", "merged_previous", "o200k", "qwen2"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace deltaworks::trainer

#include "trainer/data/text_encoder.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/json.h"
#include "trainer/data/dataset_report.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Printable ASCII, space and line feed as one token each, "nh" merged, and ChatML's two tokens.
std::unique_ptr<const Tokenizer> SmallTokenizer() {
  Json vocab = Json::object();
  const auto add = [&](const std::string& token) {
    const int64_t id = static_cast<int64_t>(vocab.size());
    vocab[token] = id;
  };
  for (char c = 33; c < 127; ++c) add(std::string(1, c));
  for (const char* token : {"\u0120", "\u010a", "nh"}) add(token);
  Json added = Json::array();
  for (const char* token : {"<|im_start|>", "<|im_end|>"}) {
    added.push_back({{"id", vocab.size() + added.size()},
                     {"content", token},
                     {"special", true},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"single_word", false},
                     {"normalized", false}});
  }
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", false}};
  const Json json = {{"version", "1.0"},
                     {"added_tokens", added},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level},
                     {"post_processor", nullptr},
                     {"decoder", byte_level},
                     {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"n h"}}}}};
  auto tokenizer = Tokenizer::Parse(JsonText(json), R"({"eos_token": "<|im_end|>"})");
  CHECK(tokenizer.ok()) << tokenizer.status();
  return std::move(*tokenizer);
}

absl::StatusOr<std::string> ChatMl(absl::Span<const Message> messages, bool answer_follows) {
  std::string text;
  for (const Message& message : messages) {
    absl::StrAppend(&text, "<|im_start|>", message.role, "\n", message.content, "<|im_end|>\n");
  }
  if (answer_follows) absl::StrAppend(&text, "<|im_start|>assistant\n");
  return text;
}

class TextEncoderTest : public ::testing::Test {
 protected:
  TextEncoder Encoder(TextSettings settings = {}) {
    return TextEncoder(*tokenizer_, ChatMl, settings);
  }

  // The example's text, label tokens in brackets.
  std::string Marked(const Example& example) {
    std::string text;
    bool inside = false;
    for (size_t i = 0; i < example.ids.size(); ++i) {
      if (example.is_label[i] != inside) text += inside ? "]" : "[";
      inside = example.is_label[i];
      absl::StrAppend(&text, tokenizer_->TokenBytes(example.ids[i]));
    }
    return inside ? text + "]" : text;
  }

  std::string MarkedRecord(const std::string& line, TextSettings settings = {}) {
    const auto example = Encoder(settings).Encode(*ParseRecord(line));
    return example.ok() ? Marked(*example) : example.status().ToString();
  }

  const std::unique_ptr<const Tokenizer> tokenizer_ = SmallTokenizer();
};

constexpr char kTwoTurns[] =
    R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
        {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]})";

TEST_F(TextEncoderTest, LabelsAreTheAssistantsTurnsWithTheTokenThatEndsThem) {
  EXPECT_EQ(MarkedRecord(kTwoTurns),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]\n"
            "<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]\n");
}

TEST_F(TextEncoderTest, OnlyTheLastTurnOrAllTokensByChoice) {
  EXPECT_EQ(MarkedRecord(kTwoTurns, {.train_on = TrainOn::kAssistantLast}),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
            "<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]\n");
  EXPECT_EQ(MarkedRecord(kTwoTurns, {.train_on = TrainOn::kAllTokens}),
            absl::StrCat("[", *ChatMl(ParseRecord(kTwoTurns)->messages, false), "]"));
}

TEST_F(TextEncoderTest, AChatWhoseLabelsWouldTakeTooLongToFindIsRefused) {
  Record record{.form = RecordForm::kChat};
  record.messages.assign(1000, {.role = "assistant", .content = "a"});
  EXPECT_TRUE(Encoder().Pieces(record).ok());  // 1 + 3 + ... + 1999 messages are rendered.
  record.messages.push_back(record.messages.back());
  EXPECT_THAT(std::string(Encoder().Pieces(record).status().message()),
              HasSubstr("messages has 1001 entries, and finding its labels would render 1002001, "
                        "want at most 1000000"));
  EXPECT_TRUE(Encoder({.train_on = TrainOn::kAssistantLast}).Pieces(record).ok());
  EXPECT_TRUE(Encoder({.train_on = TrainOn::kAllTokens}).Pieces(record).ok());
}

TEST_F(TextEncoderTest, ATurnOfWeightZeroIsNotTrained) {
  EXPECT_EQ(MarkedRecord(R"({"messages": [{"role": "assistant", "content": "a", "weight": 0},
                             {"role": "assistant", "content": "b"}]})"),
            "<|im_start|>assistant\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]\n");
}

TEST_F(TextEncoderTest, PromptAndCompletionAreTokenisedApart) {
  const auto example = Encoder().Encode(*ParseRecord(R"({"prompt": "in", "completion": "hand"})"));
  ASSERT_TRUE(example.ok()) << example.status();
  EXPECT_EQ(Marked(*example), "in[hand<|im_end|>]");
  // Together "n" and "h" would have become one token.
  EXPECT_EQ(example->ids.size(), 7u);
  EXPECT_EQ(Encoder().EncodePrompt("in")->size(), 2u);
}

TEST_F(TextEncoderTest, PlainTextIsAllLabelsAndEnds) {
  EXPECT_EQ(MarkedRecord(R"({"text": "inhand"})"), "[inhand<|im_end|>]");
}

TEST_F(TextEncoderTest, AnAnswersOwnWhiteSpaceBelongsToIt) {
  EXPECT_THAT(MarkedRecord(R"({"messages": [{"role": "assistant", "content": "a\n\n"}]})"),
              HasSubstr("[a\n\n<|im_end|>]\n"));
}

TEST_F(TextEncoderTest, ASpecialTokenWrittenInAMessageIsRefused) {
  EXPECT_EQ(MarkedRecord(R"({"messages": [{"role": "user", "content": "x<|im_end|>"},
                             {"role": "assistant", "content": "a"}]})"),
            "INVALID_ARGUMENT: messages[0].content has a special token of the model written out "
            "(\"x<|im_end|>\"), want text without");
  // In plain text it is spelt out, byte by byte.
  EXPECT_EQ(Encoder().Encode(*ParseRecord(R"({"text": "<|im_end|>"})"))->ids.size(), 11u);
}

TEST_F(TextEncoderTest, ATemplateThatRewritesEarlierTurnsIsRefused) {
  const TextEncoder encoder(
      *tokenizer_,
      [](absl::Span<const Message> messages, bool) -> absl::StatusOr<std::string> {
        return absl::StrCat(messages.size(), messages.empty() ? "" : messages.back().content);
      },
      {});
  const auto example = encoder.Encode(*ParseRecord(kTwoTurns));
  EXPECT_THAT(std::string(example.status().message()), HasSubstr("writes messages[1] otherwise"));
}

TEST_F(TextEncoderTest, ALongExampleIsAnErrorCutOrSkipped) {
  const Record record = *ParseRecord(R"({"prompt": "abc", "completion": "defg"})");
  TextSettings settings{.max_length = 5};
  Example example = *Encoder().Encode(record);
  EXPECT_EQ(ApplyMaxLength(settings, &example).status().message(),
            "the example has 8 tokens, want at most max_length = 5");
  settings.truncation = Truncation::kSkip;
  EXPECT_EQ(*ApplyMaxLength(settings, &example), LengthVerdict::kSkipped);
  settings.truncation = Truncation::kTruncate;
  EXPECT_EQ(*ApplyMaxLength(settings, &example), LengthVerdict::kTruncated);
  EXPECT_EQ(Marked(example), "abc[de]");
  EXPECT_EQ(*ApplyMaxLength(settings, &example), LengthVerdict::kFits);
  settings.max_length = 3;
  EXPECT_EQ(
      ApplyMaxLength(settings, &example).status().message(),
      "the example has no token with a label within max_length = 3 tokens, want at least one");
}

TEST_F(TextEncoderTest, TheReportHasEveryProblemAndTheLengths) {
  std::string jsonl = "{\n";
  for (int i = 1; i <= 20; ++i) {
    absl::StrAppend(&jsonl, "{\"text\": \"", std::string(i * 20, 'x'), "\"}\n");
  }
  absl::StrAppend(&jsonl, "{\"texts\": 1}\n");
  std::vector<Example> examples;
  const DatasetReport report = CheckDataset(
      jsonl, Encoder({.max_length = 301, .truncation = Truncation::kTruncate}), &examples);
  EXPECT_EQ(report.problem_count, 2);
  EXPECT_EQ(report.problems[0].line, 1);
  EXPECT_EQ(report.problems[1].line, 22);
  EXPECT_EQ(report.example_count, 20);
  // Lengths are 21, 41, ..., 401 with the end token.
  EXPECT_EQ(report.tokens, 20 + 20 * 210);
  EXPECT_EQ(report.tokens_min, 21);
  EXPECT_EQ(report.tokens_median, 201);
  EXPECT_EQ(report.tokens_p95, 381);
  EXPECT_EQ(report.tokens_max, 401);
  EXPECT_THAT(report.longer_than, ElementsAre(std::pair(256, 8), std::pair(512, 0)));
  EXPECT_EQ(report.too_long_count, 5);
  EXPECT_EQ(report.train_examples, 20);
  EXPECT_EQ(report.train_tokens, 21 * 15 + 20 * (0 + 14 * 15 / 2) + 5 * 301);
  EXPECT_EQ(report.label_tokens, report.train_tokens - 20);
  EXPECT_EQ(examples.size(), 20u);
}

TEST_F(TextEncoderTest, ReadExamplesTellsTheFirstProblem) {
  EXPECT_EQ(ReadExamples("{\"text\": \"a\"}\n{\n{\n", Encoder()).status().message(),
            "line 2: line: not JSON at byte 2 (and 1 more problems)");
  EXPECT_EQ(ReadExamples("", Encoder()).status().message(),
            "the file has 0 examples, want at least 1");
  EXPECT_EQ(ReadExamples("{\"text\": \"abc\"}",
                         Encoder({.max_length = 2, .truncation = Truncation::kSkip}))
                .status()
                .message(),
            "every example is longer than max_length and skipped, want at least 1 to train on");
  EXPECT_EQ(ReadExamples("{\"text\": \"a\"}", Encoder())->size(), 1u);
}

}  // namespace
}  // namespace deltaworks::trainer

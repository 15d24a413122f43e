#include "trainer/data/record.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;

std::string ErrorOf(absl::string_view line) {
  const auto record = ParseRecord(line);
  EXPECT_TRUE(absl::IsInvalidArgument(record.status())) << record.status();
  return std::string(record.status().message());
}

TEST(RecordTest, TheThreeFormsAreRead) {
  const auto chat = ParseRecord(
      R"({"messages": [{"role": "user", "content": "q"},
          {"role": "assistant", "content": "a", "weight": 0},
          {"role": "assistant", "content": "b", "weight": 1}], "id": 7})");
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->form, RecordForm::kChat);
  ASSERT_EQ(chat->messages.size(), 3u);
  EXPECT_EQ(chat->messages[0].content, "q");
  EXPECT_FALSE(chat->messages[1].trained);
  EXPECT_TRUE(chat->messages[2].trained);
  const auto pair = ParseRecord(R"({"prompt": "", "completion": "c"})");
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_EQ(pair->completion, "c");
  EXPECT_EQ(ParseRecord(R"({"text": "t"})")->text, "t");
}

TEST(RecordTest, ABadLineTellsWhatItHasAndWhatIsWanted) {
  EXPECT_EQ(ErrorOf("{"), "line: not JSON at byte 2");
  EXPECT_EQ(ErrorOf("[1]"),
            "line is array, want {\"messages\"}, {\"prompt\", \"completion\"} or {\"text\"}");
  EXPECT_EQ(ErrorOf(R"({"question": 1, "answer": 2})"),
            "line has the fields {answer, question}, want {\"messages\"}, {\"prompt\", "
            "\"completion\"} or {\"text\"}");
  EXPECT_EQ(ErrorOf(R"({"prompt": "p"})"), "line: completion is absent, want a string");
  EXPECT_EQ(ErrorOf(R"({"prompt": "p", "completion": ""})"), "completion is empty, want text");
  EXPECT_EQ(ErrorOf(R"({"text": ""})"), "text is empty, want text");
  EXPECT_EQ(ErrorOf(R"({"messages": []})"),
            "messages is empty, want a list of {\"role\", \"content\"}");
  EXPECT_EQ(ErrorOf(R"({"messages": [{"role": "tool", "content": ""}]})"),
            "messages[0]: role is \"tool\", want system, user or assistant");
  EXPECT_EQ(ErrorOf(R"({"messages": [{"role": "user", "content": "q"}]})"),
            "messages has no message of the assistant to learn from, want at least one");
  EXPECT_EQ(ErrorOf(R"({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]})"),
            "messages[0]: weight is 0.5, want 0 or 1");
  EXPECT_EQ(ErrorOf(R"({"messages": [3]})"), "messages[0] is number, want {\"role\", \"content\"}");
}

// What is told of `jsonl` until `told_max` things were.
std::vector<std::string> Read(absl::string_view jsonl, size_t told_max = 1000) {
  std::vector<std::string> seen;
  ReadJsonl(
      jsonl,
      [&](int64_t line, const Record& record) {
        seen.push_back(absl::StrCat(line, ": ", record.text));
        return seen.size() < told_max;
      },
      [&](const RecordProblem& problem) {
        seen.push_back(absl::StrCat(problem.line, "! ", problem.message));
        return seen.size() < told_max;
      });
  return seen;
}

TEST(ReadJsonlTest, EveryProblemIsReportedWithItsLine) {
  EXPECT_THAT(
      Read("{\"text\": \"a\"}\r\n\n{\n{\"text\": \"b\"}\n"
           "{\"prompt\": \"p\", \"completion\": \"c\"}\n{\"text\": \"c\"}"),
      ElementsAre("1: a", "3! line: not JSON at byte 2", "4: b",
                  "5! line has prompt and completion, want text as in the lines before", "6: c"));
}

TEST(ReadJsonlTest, TheRestIsNotReadOnceTheCallerHasEnough) {
  const std::string jsonl = "{\"text\": \"a\"}\nx\n{\"prompt\": \"p\", \"completion\": \"c\"}\ny\n";
  EXPECT_THAT(Read(jsonl, 1), ElementsAre("1: a"));
  EXPECT_EQ(Read(jsonl, 2).size(), 2u);
  EXPECT_EQ(Read(jsonl, 3).size(), 3u);
  EXPECT_EQ(Read(jsonl).size(), 4u);
}

TEST(ReadJsonlTest, AFileWithoutExamplesIsAProblem) {
  EXPECT_THAT(Read(""), ElementsAre("0! the file has 0 examples, want at least 1"));
  EXPECT_THAT(Read("\n \n"), ElementsAre("0! the file has 0 examples, want at least 1"));
}

TEST(ReadJsonlTest, ALineLongerThanTheLimitIsAProblem) {
  const std::string longest =
      absl::StrCat("{\"text\": \"", std::string(kRecordBytesMax, 'x'), "\"}");
  EXPECT_THAT(Read(longest), ElementsAre(absl::StrCat("1! line has ", longest.size(),
                                                      " bytes, want at most 16777216")));
}

}  // namespace
}  // namespace deltaworks::trainer

// Record: one line of a JSONL dataset, and how such a file is read.
//
//   chat                {"messages": [{"role": "user", "content": "..."}, ...]}; a message of the
//                       assistant may have OpenAI's "weight": 0 (no loss) or 1
//   prompt-completion   {"prompt": "...", "completion": "..."}
//   text                {"text": "..."}
//
// All lines of a file have one form; other fields of the object are passed over; blank lines are no
// examples. Reading takes hostile input and reports every problem, not only the first.

#ifndef DELTAWORKS_TRAINER_DATA_RECORD_H_
#define DELTAWORKS_TRAINER_DATA_RECORD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

enum class RecordForm { kChat, kPromptCompletion, kText };

absl::string_view NameOf(RecordForm form);

struct Message {
  std::string role;  // "system", "user" or "assistant".
  std::string content;
  bool trained = true;  // False: weight 0.
};

struct Record {
  RecordForm form = RecordForm::kText;
  std::vector<Message> messages;  // kChat: not empty, one of them the assistant's.
  std::string prompt;             // kPromptCompletion.
  std::string completion;         // Not empty.
  std::string text;               // kText: not empty.
};

// One line, without its line feed. InvalidArgument: what is wrong, got and want.
absl::StatusOr<Record> ParseRecord(absl::string_view line);

struct RecordProblem {
  int64_t line = 0;  // From 1; 0: of the whole file.
  std::string message;
};

// "line 3: text is empty, want text (and 4 more problems)": what is said of a file with `count`.
std::string ProblemText(const RecordProblem& first, int64_t count);

// Calls `good` for each good record, with its line, and `bad` for each bad line, in order, until
// one returns false: then the rest is not read. A file without any record has a problem of line 0.
// A line longer than kRecordBytesMax is bad.
inline constexpr size_t kRecordBytesMax = size_t{16} << 20;
void ReadJsonl(absl::string_view jsonl,
               const std::function<bool(int64_t line, const Record& record)>& good,
               const std::function<bool(const RecordProblem& problem)>& bad);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_DATA_RECORD_H_

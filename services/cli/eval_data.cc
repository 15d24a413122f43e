#include "services/cli/eval_data.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "trainer/data/record.h"

namespace deltaworks::services {
namespace {

void AddMessage(const trainer::Message& from, v1::Chat& chat) {
  v1::ChatMessage& message = *chat.add_messages();
  message.set_role(from.role);
  message.set_content(from.content);
}

void FillChat(const trainer::Record& record, EvalExample& example) {
  for (const trainer::Message& message : record.messages) {
    AddMessage(message, *example.score.mutable_chat());
  }
  const auto answer = std::find_if(record.messages.rbegin(), record.messages.rend(),
                                   [](const auto& message) { return message.role == "assistant"; });
  if (answer == record.messages.rend()) return;
  const auto before = std::next(answer);
  if (before == record.messages.rend()) return;  // A chat that begins with its answer asks nothing.
  example.has_answer = true;
  example.reference = answer->content;
  example.question_text = before->content;
  for (auto it = record.messages.begin(); it != std::prev(answer.base()); ++it) {
    AddMessage(*it, *example.question.mutable_chat());
  }
}

EvalExample ToExample(int64_t line, const trainer::Record& record) {
  EvalExample example;
  example.line = line;
  switch (record.form) {
    case trainer::RecordForm::kChat:
      FillChat(record, example);
      break;
    case trainer::RecordForm::kPromptCompletion: {
      v1::PromptCompletion& pair = *example.score.mutable_prompt_completion();
      pair.set_prompt(record.prompt);
      pair.set_completion(record.completion);
      example.has_answer = true;
      example.question.set_prompt(record.prompt);
      example.question_text = record.prompt;
      example.reference = record.completion;
      break;
    }
    case trainer::RecordForm::kText:
      example.score.set_plain_text(record.text);
      break;
  }
  return example;
}

}  // namespace

absl::StatusOr<std::vector<EvalExample>> ReadEvalExamples(absl::string_view jsonl,
                                                          const std::string& subject,
                                                          int64_t limit) {
  std::vector<EvalExample> examples;
  absl::Status first_problem;
  trainer::ReadJsonl(
      jsonl,
      [&](int64_t line, const trainer::Record& record) {
        examples.push_back(ToExample(line, record));
        return static_cast<int64_t>(examples.size()) < limit;
      },
      [&](const trainer::RecordProblem& problem) {
        first_problem = absl::InvalidArgumentError(
            absl::StrCat(subject, ": line ", problem.line, ": ", problem.message));
        return false;
      });
  if (!first_problem.ok()) return first_problem;
  if (examples.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(subject, " has no example, want at least one"));
  }
  return examples;
}

}  // namespace deltaworks::services

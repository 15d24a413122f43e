#include "trainer/data/record.h"

#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

constexpr char kWantedForms[] = "want {\"messages\"}, {\"prompt\", \"completion\"} or {\"text\"}";

absl::Status Empty(absl::string_view field) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is empty, want text"));
}

absl::StatusOr<Message> ParseMessage(const Json& json, size_t index) {
  const std::string subject = absl::StrCat("messages[", index, "]");
  Message message;
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, " is ", json.type_name(), ", want {\"role\", \"content\"}"));
  }
  DW_ASSIGN_OR_RETURN(message.role, JsonString(json, "role", subject));
  DW_ASSIGN_OR_RETURN(message.content, JsonString(json, "content", subject));
  static const auto* const roles = new std::set<std::string>{"system", "user", "assistant"};
  if (!roles->contains(message.role)) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, ": role is \"", message.role, "\", want system, user or assistant"));
  }
  if (message.role == "assistant" && message.content.empty()) {
    return Empty(absl::StrCat(subject, ".content"));
  }
  if (JsonHas(json, "weight")) {
    if (json["weight"] != 0 && json["weight"] != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(subject, ": weight is ", JsonText(json["weight"]), ", want 0 or 1"));
    }
    message.trained = json["weight"] == 1;
  }
  return message;
}

absl::StatusOr<Record> ParseChat(const Json& json) {
  Record record{.form = RecordForm::kChat};
  const Json& messages = json["messages"];
  if (!messages.is_array() || messages.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("messages is ", messages.is_array() ? "empty" : messages.type_name(),
                     ", want a list of {\"role\", \"content\"}"));
  }
  bool answered = false;
  for (size_t i = 0; i < messages.size(); ++i) {
    DW_ASSIGN_OR_RETURN(Message message, ParseMessage(messages[i], i));
    answered |= message.role == "assistant" && message.trained;
    record.messages.push_back(std::move(message));
  }
  if (!answered) {
    return absl::InvalidArgumentError(
        "messages has no message of the assistant to learn from, want at least one");
  }
  return record;
}

}  // namespace

absl::string_view NameOf(RecordForm form) {
  switch (form) {
    case RecordForm::kChat:
      return "messages";
    case RecordForm::kPromptCompletion:
      return "prompt and completion";
    case RecordForm::kText:
      return "text";
  }
  return "";
}

absl::StatusOr<Record> ParseRecord(absl::string_view line) {
  if (line.size() > kRecordBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("line has ", line.size(), " bytes, want at most ", kRecordBytesMax));
  }
  DW_ASSIGN_OR_RETURN(const Json json, ParseJson(line, "line"));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("line is ", json.type_name(), ", ", kWantedForms));
  }
  if (json.contains("messages")) return ParseChat(json);
  Record record;
  if (json.contains("prompt") || json.contains("completion")) {
    record.form = RecordForm::kPromptCompletion;
    DW_ASSIGN_OR_RETURN(record.prompt, JsonString(json, "prompt", "line"));
    DW_ASSIGN_OR_RETURN(record.completion, JsonString(json, "completion", "line"));
    if (record.completion.empty()) return Empty("completion");
    return record;
  }
  if (json.contains("text")) {
    record.form = RecordForm::kText;
    DW_ASSIGN_OR_RETURN(record.text, JsonString(json, "text", "line"));
    if (record.text.empty()) return Empty("text");
    return record;
  }
  std::string fields;
  for (const auto& item : json.items())
    absl::StrAppend(&fields, fields.empty() ? "" : ", ", item.key());
  if (fields.size() > 100) fields = absl::StrCat(fields.substr(0, 100), "...");
  return absl::InvalidArgumentError(
      absl::StrCat("line has the fields {", fields, "}, ", kWantedForms));
}

std::string ProblemText(const RecordProblem& first, int64_t count) {
  return absl::StrCat(first.line == 0 ? "" : absl::StrCat("line ", first.line, ": "), first.message,
                      count == 1 ? "" : absl::StrCat(" (and ", count - 1, " more problems)"));
}

void ReadJsonl(absl::string_view jsonl,
               const std::function<bool(int64_t line, const Record& record)>& good,
               const std::function<bool(const RecordProblem& problem)>& bad) {
  std::optional<RecordForm> form;
  bool any = false;
  for (int64_t line = 1; !jsonl.empty(); ++line) {
    const size_t end = jsonl.find('\n');
    absl::string_view text = jsonl.substr(0, end);
    jsonl.remove_prefix(end == absl::string_view::npos ? jsonl.size() : end + 1);
    text = absl::StripAsciiWhitespace(text);
    if (text.empty()) continue;
    any = true;
    const absl::StatusOr<Record> record = ParseRecord(text);
    if (!record.ok()) {
      if (!bad({line, std::string(record.status().message())})) return;
      continue;
    }
    if (!form) form = record->form;
    const bool go_on = record->form == *form
                           ? good(line, *record)
                           : bad({line, absl::StrCat("line has ", NameOf(record->form), ", want ",
                                                     NameOf(*form), " as in the lines before")});
    if (!go_on) return;
  }
  if (!any) bad({0, "the file has 0 examples, want at least 1"});
}

}  // namespace deltaworks::trainer

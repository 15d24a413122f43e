#include "trainer/data/text_encoder.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/base/utf8_prefix.h"

namespace deltaworks::trainer {
namespace {

constexpr char kNoLabel[] = "the example has no token with a label, want at least one";

std::string Shortened(absl::string_view text) {
  return text.size() <= 40 ? std::string(text) : absl::StrCat(Utf8Prefix(text, 40), "...");
}

}  // namespace

absl::Status TextEncoder::CheckContent(const Record& record) const {
  for (size_t i = 0; i < record.messages.size(); ++i) {
    if (tokenizer_.HasSpecial(record.messages[i].content)) {
      return absl::InvalidArgumentError(
          absl::StrCat("messages[", i, "].content has a special token of the model written out (\"",
                       Shortened(record.messages[i].content), "\"), want text without"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TextPiece>> TextEncoder::ChatPieces(const Record& record) const {
  DW_RETURN_IF_ERROR(CheckContent(record));
  const absl::Span<const Message> messages = record.messages;
  size_t last_answer = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == "assistant") last_answer = i;
  }
  const auto is_trained = [&](size_t i) {
    return messages[i].role == "assistant" && messages[i].trained &&
           (settings_.train_on != TrainOn::kAssistantLast || i == last_answer);
  };
  int64_t rendered = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (is_trained(i)) rendered += 2 * static_cast<int64_t>(i) + 1;
  }
  if (rendered > kRenderedMessagesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "messages has ", messages.size(), " entries, and finding its labels would render ",
        rendered, ", want at most ", kRenderedMessagesMax, ": shorter chats, or other train_on"));
  }
  DW_ASSIGN_OR_RETURN(const std::string whole, render_chat_(messages, false));
  std::vector<TextPiece> pieces;
  size_t at = 0;  // Everything before is in `pieces`.
  const auto add = [&](size_t end, bool is_label) {
    if (end > at) pieces.push_back({whole.substr(at, end - at), is_label, true});
    at = std::max(at, end);
  };
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!is_trained(i)) continue;
    DW_ASSIGN_OR_RETURN(const std::string before, render_chat_(messages.first(i), true));
    DW_ASSIGN_OR_RETURN(std::string after, render_chat_(messages.first(i + 1), false));
    // White space after the token that ends the turn is the template's, not the answer's.
    while (!after.empty() && (after.back() == '\n' || after.back() == ' ') &&
           after.size() > before.size() + messages[i].content.size()) {
      after.pop_back();
    }
    if (!absl::StartsWith(whole, after) || !absl::StartsWith(after, before) || before.size() < at) {
      return absl::InvalidArgumentError(absl::StrCat("the model's chat template writes messages[",
                                                     i,
                                                     "] otherwise once others follow, so its label "
                                                     "tokens are not known; want a chat that ends "
                                                     "there, or train_on all tokens"));
    }
    add(before.size(), false);
    add(after.size(), true);
  }
  add(whole.size(), false);
  return pieces;
}

absl::StatusOr<std::vector<TextPiece>> TextEncoder::Pieces(const Record& record) const {
  std::vector<TextPiece> pieces;
  if (record.form == RecordForm::kChat) {
    if (settings_.train_on != TrainOn::kAllTokens) return ChatPieces(record);
    DW_RETURN_IF_ERROR(CheckContent(record));
    DW_ASSIGN_OR_RETURN(std::string whole, render_chat_(record.messages, false));
    pieces.push_back({std::move(whole), /*is_label=*/true, /*parse_special=*/true});
    return pieces;
  }
  if (record.form == RecordForm::kText) {
    pieces.push_back({record.text, /*is_label=*/true});
    return pieces;
  }
  if (!record.prompt.empty()) {
    pieces.push_back({record.prompt, settings_.train_on == TrainOn::kAllTokens});
  }
  pieces.push_back({record.completion, /*is_label=*/true});
  return pieces;
}

absl::StatusOr<Example> TextEncoder::Encode(const Record& record) const {
  DW_ASSIGN_OR_RETURN(const std::vector<TextPiece> pieces, Pieces(record));
  Example example;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const EncodeOptions options{.parse_special = pieces[i].parse_special,
                                .add_special = i == 0 && record.form != RecordForm::kChat};
    DW_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer_.Encode(pieces[i].text, options));
    example.ids.insert(example.ids.end(), ids.begin(), ids.end());
    example.is_label.resize(example.ids.size(), pieces[i].is_label);
  }
  if (record.form != RecordForm::kChat && tokenizer_.eos_id()) {
    example.ids.push_back(*tokenizer_.eos_id());
    example.is_label.push_back(true);
  }
  if (example.label_count() == 0) return absl::InvalidArgumentError(kNoLabel);
  return example;
}

absl::StatusOr<std::vector<int32_t>> TextEncoder::EncodePrompt(
    absl::Span<const Message> messages) const {
  Record record{.form = RecordForm::kChat};
  record.messages.assign(messages.begin(), messages.end());
  DW_RETURN_IF_ERROR(CheckContent(record));
  DW_ASSIGN_OR_RETURN(const std::string text, render_chat_(messages, true));
  return tokenizer_.Encode(text, {.parse_special = true});
}

absl::StatusOr<std::vector<int32_t>> TextEncoder::EncodePrompt(absl::string_view prompt) const {
  return tokenizer_.Encode(prompt, {.add_special = true});
}

absl::StatusOr<LengthVerdict> ApplyMaxLength(const TextSettings& settings, Example* example) {
  if (example->tokens() <= settings.max_length) return LengthVerdict::kFits;
  switch (settings.truncation) {
    case Truncation::kError:
      return absl::InvalidArgumentError(
          absl::StrCat("the example has ", example->tokens(),
                       " tokens, want at most max_length = ", settings.max_length));
    case Truncation::kSkip:
      return LengthVerdict::kSkipped;
    case Truncation::kTruncate:
      break;
  }
  example->ids.resize(settings.max_length);
  example->is_label.resize(settings.max_length);
  if (example->label_count() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the example has no token with a label within max_length = ", settings.max_length,
        " tokens, want at least one"));
  }
  return LengthVerdict::kTruncated;
}

}  // namespace deltaworks::trainer

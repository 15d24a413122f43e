#include "services/inference/request_checks.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/json_escape.h"
#include "services/base/spec_conversion.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int kMessagesMax = 1'000;
constexpr size_t kContentBytesMax = size_t{1} << 20;
constexpr int kStopsMax = 16;
constexpr size_t kStopBytesMax = 256;
constexpr int32_t kNewTokensMax = 131'072;
constexpr int32_t kNewTokensDefault = 256;
constexpr double kTemperatureMax = 10;
constexpr int kExamplesMax = 1'000;
constexpr int32_t kLengthMax = 131'072;
constexpr int32_t kLengthDefault = 1'024;
constexpr size_t kQuotedSizeMax = 100;

absl::Status Bad(absl::string_view field, const std::string& got, absl::string_view want) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", got, ", want ", want));
}

std::string Quoted(const std::string& text) { return JsonQuote(text.substr(0, kQuotedSizeMax)); }

bool IsRole(const std::string& role) {
  return role == "system" || role == "user" || role == "assistant";
}

absl::Status CheckChat(const std::string& field, const v1::Chat& chat) {
  if (chat.messages_size() < 1 || chat.messages_size() > kMessagesMax) {
    return absl::InvalidArgumentError(absl::StrCat(field, ".messages has ", chat.messages_size(),
                                                   " messages, want 1..", kMessagesMax));
  }
  for (int i = 0; i < chat.messages_size(); ++i) {
    const v1::ChatMessage& message = chat.messages(i);
    const std::string name = absl::StrCat(field, ".messages[", i, "]");
    if (!IsRole(message.role())) {
      return Bad(name + ".role", Quoted(message.role()), "system, user or assistant");
    }
    if (message.content().size() > kContentBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat(name, ".content has ",
                                                     message.content().size(),
                                                     " bytes, want at most ", kContentBytesMax));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStops(const v1::GenerateRequest& request) {
  if (request.stop_size() > kStopsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("stop has ", request.stop_size(), " texts, want at most ", kStopsMax));
  }
  for (int i = 0; i < request.stop_size(); ++i) {
    if (request.stop(i).empty() || request.stop(i).size() > kStopBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat("stop[", i, "] has ", request.stop(i).size(),
                                                     " bytes, want 1..", kStopBytesMax));
    }
  }
  return absl::OkStatus();
}

std::vector<trainer::Message> MessagesOf(const v1::Chat& chat) {
  std::vector<trainer::Message> messages;
  for (const v1::ChatMessage& message : chat.messages()) {
    messages.push_back({message.role(), message.content()});
  }
  return messages;
}

absl::Status CheckExample(const std::string& field, const v1::ScoreExample& example) {
  switch (example.input_case()) {
    case v1::ScoreExample::kChat: {
      DW_RETURN_IF_ERROR(CheckChat(field + ".chat", example.chat()));
      const auto& messages = example.chat().messages();
      if (std::any_of(messages.begin(), messages.end(),
                      [](const auto& message) { return message.role() == "assistant"; })) {
        return absl::OkStatus();
      }
      return absl::InvalidArgumentError(
          absl::StrCat(field, ".chat has no message of the assistant, want one to score"));
    }
    case v1::ScoreExample::kPromptCompletion:
      if (!example.prompt_completion().completion().empty()) return absl::OkStatus();
      return Bad(field + ".prompt_completion.completion", "empty", "a text to score");
    case v1::ScoreExample::kPlainText:
      if (!example.plain_text().empty()) return absl::OkStatus();
      return Bad(field + ".plain_text", "empty", "a text to score");
    case v1::ScoreExample::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is empty, want chat, prompt_completion or plain_text"));
}

absl::Status CheckText(const v1::TextSettings& text) {
  if (text.has_max_length() && (text.max_length() < 2 || text.max_length() > kLengthMax)) {
    return Bad("text.max_length", absl::StrCat(text.max_length()), absl::StrCat("2..", kLengthMax));
  }
  if (!v1::TextSettings::Truncation_IsValid(text.truncation())) {
    return Bad("text.truncation", absl::StrCat(static_cast<int>(text.truncation())),
               "ERROR, TRUNCATE or SKIP");
  }
  if (!v1::TextSettings::TrainOn_IsValid(text.train_on())) {
    return Bad("text.train_on", absl::StrCat(static_cast<int>(text.train_on())),
               "ASSISTANT_ALL, ASSISTANT_LAST or ALL_TOKENS");
  }
  return absl::OkStatus();
}

trainer::Record RecordOf(const v1::ScoreExample& example) {
  if (example.has_chat()) {
    return {.form = trainer::RecordForm::kChat, .messages = MessagesOf(example.chat())};
  }
  if (example.has_prompt_completion()) {
    return {.form = trainer::RecordForm::kPromptCompletion,
            .prompt = example.prompt_completion().prompt(),
            .completion = example.prompt_completion().completion()};
  }
  return {.form = trainer::RecordForm::kText, .text = example.plain_text()};
}

// A prompt in which the caller wrote the first token that the tokenizer adds, too, has it once.
absl::StatusOr<std::vector<int32_t>> EncodePrompt(const std::string& prompt,
                                                  const trainer::Tokenizer& tokenizer) {
  DW_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                      tokenizer.Encode(prompt, {.parse_special = true, .add_special = true}));
  const auto bos = tokenizer.bos_id();
  if (bos.has_value() && ids.size() >= 2 && ids[0] == *bos && ids[1] == *bos) {
    ids.erase(ids.begin());
  }
  return ids;
}

}  // namespace

absl::Status CheckGenerate(const v1::GenerateRequest& request) {
  if (request.input_case() == v1::GenerateRequest::INPUT_NOT_SET) {
    return absl::InvalidArgumentError("prompt and chat are absent, want one of them");
  }
  if (request.has_prompt() && request.prompt().empty()) {
    return Bad("prompt", "empty", "a text to continue");
  }
  if (request.has_chat()) DW_RETURN_IF_ERROR(CheckChat("chat", request.chat()));
  if (request.max_new_tokens() < 0 || request.max_new_tokens() > kNewTokensMax) {
    return Bad("max_new_tokens", absl::StrCat(request.max_new_tokens()),
               absl::StrCat("1..", kNewTokensMax));
  }
  // Written so that NaN is refused too.
  if (!(request.temperature() >= 0 && request.temperature() <= kTemperatureMax)) {
    return Bad("temperature", absl::StrCat(request.temperature()),
               absl::StrCat("0..", kTemperatureMax));
  }
  if (!(request.top_p() >= 0 && request.top_p() <= 1)) {
    return Bad("top_p", absl::StrCat(request.top_p()), "more than 0 and at most 1, or 0 for 1");
  }
  if (request.top_k() < 0) return Bad("top_k", absl::StrCat(request.top_k()), "0 (all) or more");
  return CheckStops(request);
}

absl::Status CheckScore(const v1::ScoreRequest& request) {
  if (request.examples_size() < 1 || request.examples_size() > kExamplesMax) {
    return absl::InvalidArgumentError(absl::StrCat("examples has ", request.examples_size(),
                                                   " examples, want 1..", kExamplesMax));
  }
  for (int i = 0; i < request.examples_size(); ++i) {
    DW_RETURN_IF_ERROR(CheckExample(absl::StrCat("examples[", i, "]"), request.examples(i)));
  }
  return CheckText(request.text());
}

absl::StatusOr<GenerationTask> MakeTask(const v1::GenerateRequest& request, const LoadedBase& base,
                                        int64_t context) {
  GenerationTask task;
  if (request.has_prompt()) {
    DW_ASSIGN_OR_RETURN(task.prompt, EncodePrompt(request.prompt(), base.tokenizer()));
  } else {
    DW_ASSIGN_OR_RETURN(task.prompt, base.MakeEncoder({}).EncodePrompt(MessagesOf(request.chat())));
  }
  const auto length = static_cast<int64_t>(task.prompt.size());
  if (length < 1) return absl::InvalidArgumentError("the prompt has 0 tokens, want at least 1");
  if (length >= context) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the prompt has ", length, " tokens, want fewer than the context of ", context));
  }
  task.sampling = {.temperature = request.temperature(),
                   .top_p = request.top_p() == 0 ? 1 : request.top_p(),
                   .top_k = request.top_k(),
                   .seed = static_cast<uint64_t>(request.seed())};
  const int32_t wanted =
      request.max_new_tokens() == 0 ? kNewTokensDefault : request.max_new_tokens();
  task.max_new_tokens = std::min<int64_t>(wanted, context - length);
  task.stop.assign(request.stop().begin(), request.stop().end());
  return task;
}

absl::StatusOr<std::vector<trainer::Example>> MakeExamples(const v1::ScoreRequest& request,
                                                           const LoadedBase& base,
                                                           int64_t context) {
  trainer::TextSettings settings = ToTextSettings(request.text());
  if (!request.text().has_max_length()) {
    settings.max_length = std::min<int64_t>(kLengthDefault, context);
  } else if (settings.max_length > context) {
    return Bad("text.max_length", absl::StrCat(settings.max_length),
               absl::StrCat("at most the context of ", context));
  }
  const trainer::TextEncoder encoder = base.MakeEncoder(settings);
  std::vector<trainer::Example> examples;
  for (int i = 0; i < request.examples_size(); ++i) {
    absl::StatusOr<trainer::Example> example = encoder.Encode(RecordOf(request.examples(i)));
    absl::StatusOr<trainer::LengthVerdict> verdict = trainer::LengthVerdict::kFits;
    if (example.ok()) verdict = trainer::ApplyMaxLength(settings, &*example);
    const absl::Status status = example.ok() ? verdict.status() : example.status();
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("examples[", i, "]: ", status.message()));
    }
    if (*verdict == trainer::LengthVerdict::kSkipped) {
      example->is_label.assign(example->ids.size(), false);
    }
    examples.push_back(*std::move(example));
  }
  return examples;
}

}  // namespace deltaworks::services

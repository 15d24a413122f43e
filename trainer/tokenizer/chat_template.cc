#include "trainer/tokenizer/chat_template.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/jinja/evaluator.h"
#include "trainer/tokenizer/jinja/parser.h"
#include "trainer/tokenizer/tokenizer_spec.h"
#include "trainer/tokenizer/utf8.h"

namespace deltaworks::trainer {
namespace {

constexpr absl::string_view kConfigName = "tokenizer_config.json";

absl::Status InTemplate(const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("chat template: ", status.message()));
}

jinja::Value Utf8Value(absl::string_view text) {
  std::string storage;
  return jinja::Value::String(std::string(ValidUtf8(text, &storage)));
}

// A token is "</s>" or {"content": "</s>", "lstrip": ...}.
absl::Status ReadToken(const Json& config, const std::string& name,
                       std::optional<std::string>* token) {
  if (!JsonHas(config, name)) return absl::OkStatus();
  const bool is_object = config[name].is_object();
  DW_ASSIGN_OR_RETURN(*token, is_object ? JsonString(config[name], "content", kConfigName)
                                        : JsonString(config, name, kConfigName));
  return absl::OkStatus();
}

absl::StatusOr<ChatTokens> ReadTokens(const Json& config) {
  ChatTokens tokens;
  DW_RETURN_IF_ERROR(ReadToken(config, "bos_token", &tokens.bos));
  DW_RETURN_IF_ERROR(ReadToken(config, "eos_token", &tokens.eos));
  DW_RETURN_IF_ERROR(ReadToken(config, "pad_token", &tokens.pad));
  DW_RETURN_IF_ERROR(ReadToken(config, "unk_token", &tokens.unk));
  return tokens;
}

// The text itself, or of [{"name": "default", "template": ...}, ...] the default one.
absl::StatusOr<std::string> ReadTemplate(const Json& config) {
  if (!JsonHas(config, "chat_template")) {
    return absl::NotFoundError(absl::StrCat(kConfigName, ": has no chat_template"));
  }
  const Json& value = config["chat_template"];
  if (!value.is_array()) return JsonString(config, "chat_template", kConfigName);
  for (const Json& entry : value) {
    if (JsonHas(entry, "name") && entry["name"] == "default") {
      return JsonString(entry, "template", kConfigName);
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat(kConfigName, ": chat_template has no entry named default"));
}

}  // namespace

ChatTemplate::ChatTemplate(std::string source, jinja::Block block, ChatTokens tokens,
                           jinja::Limits limits)
    : source_(std::move(source)),
      block_(std::move(block)),
      tokens_(std::move(tokens)),
      limits_(limits) {}

absl::StatusOr<std::unique_ptr<const ChatTemplate>> ChatTemplate::Parse(
    absl::string_view source, const ChatTokens& tokens, const jinja::Limits& limits) {
  if (source.size() > kChatTemplateBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("chat template: has ", source.size(),
                                                   " bytes, want at most ", kChatTemplateBytesMax));
  }
  std::string storage;
  absl::StatusOr<jinja::Block> block = jinja::ParseTemplate(ValidUtf8(source, &storage));
  if (!block.ok()) return InTemplate(block.status());
  return std::unique_ptr<const ChatTemplate>(
      new ChatTemplate(std::string(source), *std::move(block), tokens, limits));
}

absl::StatusOr<std::unique_ptr<const ChatTemplate>> ChatTemplate::FromConfig(
    absl::string_view tokenizer_config_json) {
  DW_ASSIGN_OR_RETURN(const Json config, ParseJson(tokenizer_config_json, kConfigName));
  DW_ASSIGN_OR_RETURN(const std::string source, ReadTemplate(config));
  DW_ASSIGN_OR_RETURN(const ChatTokens tokens, ReadTokens(config));
  return Parse(source, tokens);
}

absl::StatusOr<std::unique_ptr<const ChatTemplate>> ChatTemplate::FromFolder(
    const std::string& folder) {
  absl::StatusOr<std::string> config =
      ReadFile(absl::StrCat(folder, "/", kConfigName), kTokenizerJsonBytesMax);
  if (absl::IsNotFound(config.status())) config = "{}";
  DW_RETURN_IF_ERROR(config.status());
  const absl::StatusOr<std::string> source =
      ReadFile(absl::StrCat(folder, "/chat_template.jinja"), kChatTemplateBytesMax);
  if (absl::IsNotFound(source.status())) return FromConfig(*config);
  DW_RETURN_IF_ERROR(source.status());
  DW_ASSIGN_OR_RETURN(const Json json, ParseJson(*config, kConfigName));
  DW_ASSIGN_OR_RETURN(const ChatTokens tokens, ReadTokens(json));
  return Parse(*source, tokens);
}

absl::StatusOr<std::string> ChatTemplate::Render(absl::Span<const ChatMessage> messages,
                                                 bool add_generation_prompt) const {
  if (messages.size() > kChatMessagesMax) {
    return absl::InvalidArgumentError(absl::StrCat("the chat has ", messages.size(),
                                                   " messages, want at most ", kChatMessagesMax));
  }
  jinja::List list;
  for (const ChatMessage& message : messages) {
    jinja::Map map;
    map.Set("role", Utf8Value(message.role));
    map.Set("content", Utf8Value(message.content));
    DW_ASSIGN_OR_RETURN(jinja::Value value, jinja::Value::OfMap(std::move(map)));
    list.push_back(std::move(value));
  }
  jinja::Map variables;
  DW_ASSIGN_OR_RETURN(jinja::Value chat, jinja::Value::OfList(std::move(list)));
  variables.Set("messages", std::move(chat));
  variables.Set("add_generation_prompt", jinja::Value::Bool(add_generation_prompt));
  // What transformers passes when there are none.
  variables.Set("tools", jinja::Value::None());
  variables.Set("documents", jinja::Value::None());
  const auto set_token = [&](absl::string_view name, const std::optional<std::string>& token) {
    if (token.has_value()) variables.Set(name, Utf8Value(*token));
  };
  set_token("bos_token", tokens_.bos);
  set_token("eos_token", tokens_.eos);
  set_token("pad_token", tokens_.pad);
  set_token("unk_token", tokens_.unk);
  absl::StatusOr<std::string> text = jinja::Evaluator(std::move(variables), limits_).Render(block_);
  if (!text.ok()) return InTemplate(text.status());
  return text;
}

}  // namespace deltaworks::trainer

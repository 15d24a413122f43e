#include "trainer/import/hf_tokenizer.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/manifest.h"

namespace deltaworks::trainer {
namespace {

constexpr char kChatTemplateFile[] = "chat_template.jinja";
constexpr char kChatTemplate[] = "chat_template";
constexpr int64_t kTokenizerBytesMax = 128 << 20;
constexpr int64_t kTokenizerConfigBytesMax = 16 << 20;
constexpr int64_t kChatTemplateBytesMax = 1 << 20;

absl::Status CheckId(const Json& id, const std::string& token, int64_t vocab_size,
                     absl::string_view subject) {
  if (id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(vocab_size)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      subject, ": the id of token ", JsonText(Json(token)).substr(0, 80), " is ",
      JsonText(id).substr(0, 40), ", want 0..", vocab_size - 1, ", a row of the embedding"));
}

absl::Status CheckVocabulary(const Json& json, int64_t vocab_size, absl::string_view subject) {
  if (!JsonHas(json, "model") || !JsonHas(json["model"], "vocab")) {
    return absl::InvalidArgumentError(absl::StrCat(subject, ": has no model.vocab, want one"));
  }
  const Json& vocab = json["model"]["vocab"];
  if (vocab.is_object()) {
    for (const auto& [token, id] : vocab.items()) {
      DW_RETURN_IF_ERROR(CheckId(id, token, vocab_size, subject));
    }
  } else if (!vocab.is_array() || static_cast<int64_t>(vocab.size()) > vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, ": model.vocab is a JSON ", vocab.type_name(), " of ", vocab.size(),
                     ", want an object or a list of at most ", vocab_size, " tokens"));
  }
  if (!JsonHas(json, "added_tokens")) return absl::OkStatus();
  const Json& added_tokens = json["added_tokens"];
  if (!added_tokens.is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(subject, ": added_tokens is a JSON ",
                                                   added_tokens.type_name(), ", want a list"));
  }
  for (const Json& added : added_tokens) {
    DW_ASSIGN_OR_RETURN(const std::string content, JsonString(added, "content", subject));
    const Json id = added.contains("id") ? added["id"] : Json();
    DW_RETURN_IF_ERROR(CheckId(id, content, vocab_size, subject));
  }
  return absl::OkStatus();
}

// "bos_token": "<s>" or {"content": "<s>", ...}, of which only the content is kept.
absl::Status FlattenSpecialTokens(Json& config, absl::string_view subject) {
  for (const char* name : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
    if (!JsonHas(config, name)) continue;
    Json& token = config[name];
    if (token.is_object()) {
      DW_ASSIGN_OR_RETURN(std::string content,
                          JsonString(token, "content", absl::StrCat(subject, ": ", name)));
      token = std::move(content);
    } else if (!token.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(
          subject, ": ", name, " is a JSON ", token.type_name(), ", want a string or an object"));
    }
  }
  return absl::OkStatus();
}

// A chat_template is a text or a list of {"name", "template"}, of which "default" is kept.
absl::Status PickChatTemplate(Json& config, const std::string& folder, absl::string_view subject) {
  if (!JsonHas(config, kChatTemplate)) {
    const std::string path = absl::StrCat(folder, "/", kChatTemplateFile);
    if (!std::filesystem::exists(path)) return absl::OkStatus();
    DW_ASSIGN_OR_RETURN(config[kChatTemplate], ReadFile(path, kChatTemplateBytesMax));
    return absl::OkStatus();
  }
  if (config[kChatTemplate].is_string()) return absl::OkStatus();
  if (config[kChatTemplate].is_array()) {
    for (const Json& entry : config[kChatTemplate]) {
      if (!JsonHas(entry, "name") || entry["name"] != "default") continue;
      DW_ASSIGN_OR_RETURN(std::string text, JsonString(entry, "template", subject));
      config[kChatTemplate] = std::move(text);
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      subject, ": ", kChatTemplate, " is ", JsonText(config[kChatTemplate]).substr(0, 80),
      ", want a text or a list with one named \"default\""));
}

}  // namespace

absl::StatusOr<TokenizerFiles> ReadHfTokenizer(const std::string& folder, int64_t vocab_size) {
  TokenizerFiles files;
  const std::string path = absl::StrCat(folder, "/", kTokenizerFile);
  DW_ASSIGN_OR_RETURN(files.tokenizer_json, ReadFile(path, kTokenizerBytesMax));
  DW_ASSIGN_OR_RETURN(const Json tokenizer, ParseJson(files.tokenizer_json, path));
  DW_RETURN_IF_ERROR(CheckVocabulary(tokenizer, vocab_size, path));

  const std::string config_path = absl::StrCat(folder, "/", kTokenizerConfigFile);
  DW_ASSIGN_OR_RETURN(const std::string text, ReadFile(config_path, kTokenizerConfigBytesMax));
  DW_ASSIGN_OR_RETURN(Json config, ParseJson(text, config_path));
  if (!config.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(config_path, ": is a JSON ", config.type_name(), ", want an object"));
  }
  DW_RETURN_IF_ERROR(FlattenSpecialTokens(config, config_path));
  DW_RETURN_IF_ERROR(PickChatTemplate(config, folder, config_path));
  files.tokenizer_config_json = absl::StrCat(JsonText(config, 2), "\n");
  return files;
}

}  // namespace deltaworks::trainer

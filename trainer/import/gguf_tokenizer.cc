#include "trainer/import/gguf_tokenizer.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"
#include "trainer/import/pre_tokenizers.h"

namespace deltaworks::trainer {
namespace {

constexpr char kTokens[] = "tokenizer.ggml.tokens";
constexpr char kTokenTypes[] = "tokenizer.ggml.token_type";
constexpr char kMerges[] = "tokenizer.ggml.merges";

// ggml's kinds of tokens.
enum TokenType : int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5 };

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", absl::CEscape(text.substr(0, 80)), "\"");
}

// JSON is UTF-8; text that is not would be changed by writing it.
bool SurvivesJson(absl::string_view text) {
  const auto parsed = ParseJson(JsonText(Json(std::string(text))), "text");
  return parsed.ok() && parsed->get_ref<const std::string&>() == text;
}

class Converter {
 public:
  explicit Converter(const Gguf& gguf) : gguf_(gguf) {}

  absl::StatusOr<TokenizerFiles> Convert() {
    DW_RETURN_IF_ERROR(ReadPreTokenizer());
    DW_RETURN_IF_ERROR(ReadVocabulary());
    DW_ASSIGN_OR_RETURN(const Json merges, Merges());
    DW_ASSIGN_OR_RETURN(const Json config, Config());
    const Json tokenizer = {
        {"version", "1.0"},
        {"truncation", nullptr},
        {"padding", nullptr},
        {"added_tokens", added_tokens_},
        {"normalizer", pre_.normalizer},
        {"pre_tokenizer", pre_.pre_tokenizer},
        {"post_processor", PostProcessor(config)},
        {"decoder",
         {{"type", "ByteLevel"},
          {"add_prefix_space", true},
          {"trim_offsets", true},
          {"use_regex", true}}},
        {"model",
         {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},  // A byte without a token is dropped, as llama.cpp does.
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", pre_.ignore_merges},
          {"vocab", vocab_},
          {"merges", merges}}},
    };
    return TokenizerFiles{absl::StrCat(JsonText(tokenizer, 1), "\n"),
                          absl::StrCat(JsonText(config, 2), "\n")};
  }

 private:
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return absl::InvalidArgumentError(absl::StrCat(gguf_.subject(), ": ", parts...));
  }

  absl::Status ReadPreTokenizer() {
    DW_ASSIGN_OR_RETURN(const absl::string_view model, gguf_.String("tokenizer.ggml.model"));
    if (model != "gpt2") {
      return Error("tokenizer.ggml.model is ", Quoted(model),
                   ", want \"gpt2\" (byte-level BPE), the only supported one");
    }
    DW_ASSIGN_OR_RETURN(const absl::string_view name, gguf_.String("tokenizer.ggml.pre"));
    std::optional<PreTokenizer> pre = FindPreTokenizer(name);
    if (!pre.has_value()) {
      return Error("tokenizer.ggml.pre is ", Quoted(name), ", want one of ", PreTokenizerNames());
    }
    pre_ = *std::move(pre);
    return absl::OkStatus();
  }

  absl::Status ReadVocabulary() {
    DW_ASSIGN_OR_RETURN(tokens_, gguf_.Strings(kTokens));
    DW_ASSIGN_OR_RETURN(const std::vector<int64_t> types, gguf_.Ints(kTokenTypes));
    if (types.size() != tokens_.size()) {
      return Error(kTokenTypes, " has ", types.size(), " entries, want ", tokens_.size(), " as ",
                   kTokens);
    }
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (types[id] == kUnused) continue;
      DW_RETURN_IF_ERROR(AddToken(id, types[id]));
    }
    return absl::OkStatus();
  }

  absl::Status AddToken(size_t id, int64_t type) {
    const absl::string_view text = tokens_[id];
    if (!SurvivesJson(text)) {
      return Error(kTokens, "[", id, "] is ", Quoted(text), ", want UTF-8");
    }
    const auto [it, is_new] = ids_.emplace(text, id);
    if (!is_new) {
      return Error(kTokens, "[", id, "] is ", Quoted(text), " as [", it->second,
                   "], want each token once");
    }
    vocab_[std::string(text)] = id;
    switch (type) {
      case kNormal:
        return absl::OkStatus();
      case kUnknown:
      case kControl:
      case kUserDefined:
        added_tokens_.push_back({{"id", id},
                                 {"content", std::string(text)},
                                 {"single_word", false},
                                 {"lstrip", false},
                                 {"rstrip", false},
                                 {"normalized", false},
                                 {"special", type != kUserDefined}});
        return absl::OkStatus();
      default:
        return Error(kTokenTypes, "[", id, "] is ", type,
                     ", want 1 (normal), 2 (unknown), 3 (control), 4 (user-defined) or 5 (unused)");
    }
  }

  // "left right" with one space, since tokens write a space as another character.
  absl::StatusOr<Json> Merges() const {
    DW_ASSIGN_OR_RETURN(const std::vector<absl::string_view> merges, gguf_.Strings(kMerges));
    Json result = Json::array();
    for (size_t i = 0; i < merges.size(); ++i) {
      const absl::string_view merge = merges[i];
      const size_t space = merge.find(' ');
      if (space == absl::string_view::npos || space == 0 || space + 1 == merge.size() ||
          merge.find(' ', space + 1) != absl::string_view::npos) {
        return Error(kMerges, "[", i, "] is ", Quoted(merge), ", want two tokens and a space");
      }
      const absl::string_view left = merge.substr(0, space);
      const absl::string_view right = merge.substr(space + 1);
      for (const std::string& token :
           {std::string(left), std::string(right), absl::StrCat(left, right)}) {
        if (!ids_.contains(token)) {
          return Error(kMerges, "[", i, "] is ", Quoted(merge), ", but ", Quoted(token),
                       " is no token, want it in ", kTokens);
        }
      }
      result.push_back(std::string(merge));
    }
    return result;
  }

  // Adds the text of the special token `gguf_name` as `name`, if the file has one.
  absl::Status AddSpecial(const char* name, const char* gguf_name, Json& config) const {
    const std::string key = absl::StrCat("tokenizer.ggml.", gguf_name, "_token_id");
    if (!gguf_.Has(key)) return absl::OkStatus();
    DW_ASSIGN_OR_RETURN(const int64_t id, gguf_.Int(key));
    if (id < 0 || id >= static_cast<int64_t>(tokens_.size()) || !ids_.contains(tokens_[id])) {
      return Error(key, " is ", id, ", want a token that is used, 0..", tokens_.size() - 1);
    }
    config[name] = std::string(tokens_[id]);
    return absl::OkStatus();
  }

  absl::Status AddFlag(const char* name, const char* needs, bool otherwise, Json& config) const {
    const std::string key = absl::StrCat("tokenizer.ggml.", name);
    bool flag = otherwise && config.contains(needs);
    if (gguf_.Has(key)) {
      DW_ASSIGN_OR_RETURN(flag, gguf_.Bool(key));
    }
    if (flag && !config.contains(needs)) {
      return Error(key, " is true, but there is no ", needs, ", want its id in the metadata");
    }
    config[name] = flag;
    return absl::OkStatus();
  }

  absl::StatusOr<Json> Config() const {
    Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                   {"clean_up_tokenization_spaces", false}};
    DW_RETURN_IF_ERROR(AddSpecial("bos_token", "bos", config));
    DW_RETURN_IF_ERROR(AddSpecial("eos_token", "eos", config));
    DW_RETURN_IF_ERROR(AddSpecial("pad_token", "padding", config));
    DW_RETURN_IF_ERROR(AddSpecial("unk_token", "unknown", config));
    DW_RETURN_IF_ERROR(AddFlag("add_bos_token", "bos_token", pre_.bos_by_default, config));
    DW_RETURN_IF_ERROR(AddFlag("add_eos_token", "eos_token", false, config));
    const std::string template_key = "tokenizer.chat_template";
    if (gguf_.Has(template_key)) {
      DW_ASSIGN_OR_RETURN(const absl::string_view text, gguf_.String(template_key));
      if (!SurvivesJson(text)) return Error(template_key, " is ", Quoted(text), ", want UTF-8");
      config["chat_template"] = std::string(text);
    }
    return config;
  }

  // bos before, eos after each text, where the config says so.
  Json PostProcessor(const Json& config) const {
    Json single = Json::array();
    Json pair = Json::array();
    Json special_tokens = Json::object();
    const auto add_special = [&](const char* name, int type_id, Json& list) {
      const std::string token = config[name].get<std::string>();
      special_tokens[token] = {
          {"id", token}, {"ids", Json::array({ids_.at(token)})}, {"tokens", Json::array({token})}};
      list.push_back({{"SpecialToken", {{"id", token}, {"type_id", type_id}}}});
    };
    const auto add_text = [&](const char* id, int type_id, Json& list) {
      if (config["add_bos_token"] == true) add_special("bos_token", type_id, list);
      list.push_back({{"Sequence", {{"id", id}, {"type_id", type_id}}}});
      if (config["add_eos_token"] == true) add_special("eos_token", type_id, list);
    };
    add_text("A", 0, single);
    add_text("A", 0, pair);
    add_text("B", 1, pair);
    if (special_tokens.empty()) return nullptr;
    return {{"type", "TemplateProcessing"},
            {"single", single},
            {"pair", pair},
            {"special_tokens", special_tokens}};
  }

  const Gguf& gguf_;
  PreTokenizer pre_;
  std::vector<absl::string_view> tokens_;
  absl::flat_hash_map<absl::string_view, size_t> ids_;  // Of the tokens that are used.
  Json vocab_ = Json::object();
  Json added_tokens_ = Json::array();
};

}  // namespace

absl::StatusOr<TokenizerFiles> GgufTokenizer(const Gguf& gguf) { return Converter(gguf).Convert(); }

}  // namespace deltaworks::trainer

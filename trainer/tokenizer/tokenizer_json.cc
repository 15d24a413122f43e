// ReadTokenizerJson(): see tokenizer_spec.h. Here the file, its model and its added tokens; the
// other parts are in tokenizer_json_parts.cc.

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/tokenizer_json_parts.h"

namespace deltaworks::trainer {
namespace {

using tokenizer_json::BoolOr;
using tokenizer_json::CheckedId;
using tokenizer_json::Invalid;
using tokenizer_json::Shown;
using tokenizer_json::TokenIds;
using tokenizer_json::Where;

// Refuses a component that is not supported, unless it is switched off.
absl::Status WantOff(const Json& model, const std::string& name) {
  if (!JsonHas(model, name)) return absl::OkStatus();
  const Json& value = model[name];
  if (value == false || value == "" || (value.is_number() && value == 0)) return absl::OkStatus();
  return Invalid(
      absl::StrCat("model: ", name, " is ", Shown(value), ", which is not supported; want none"));
}

absl::Status ReadVocab(const Json& model, TokenizerSpec* spec, TokenIds* ids) {
  if (!JsonHas(model, "vocab") || !model["vocab"].is_object()) {
    return Invalid("model: vocab is absent or no object of tokens and ids");
  }
  absl::flat_hash_set<int32_t> used;
  for (const auto& [text, value] : model["vocab"].items()) {
    DW_ASSIGN_OR_RETURN(const int32_t id, CheckedId(value, text));
    if (!used.insert(id).second) {
      return Invalid(
          absl::StrCat("model: vocab gives id ", id, " to ", Shown(text), " and to another token"));
    }
    spec->vocab.push_back({text, id});
    ids->emplace(text, id);
  }
  if (spec->vocab.empty()) return Invalid("model: vocab is empty");
  return absl::OkStatus();
}

// A merge is "a b" or ["a", "b"]; only the second can hold tokens with a space.
absl::StatusOr<std::pair<std::string, std::string>> MergePair(const Json& merge) {
  std::vector<std::string> sides;
  if (merge.is_string()) {
    sides = absl::StrSplit(merge.get_ref<const std::string&>(), ' ');
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
             merge[1].is_string()) {
    sides = {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  if (sides.size() != 2) {
    return Invalid(absl::StrCat("model: a merge is ", Shown(merge),
                                ", want \"left right\" or [\"left\", \"right\"]"));
  }
  return std::make_pair(sides[0], sides[1]);
}

absl::Status ReadMerges(const Json& model, const TokenIds& ids, TokenizerSpec* spec) {
  if (!JsonHas(model, "merges") || !model["merges"].is_array()) {
    return Invalid("model: merges is absent or no list");
  }
  for (const Json& merge : model["merges"]) {
    if (merge.is_string() && absl::StartsWith(merge.get_ref<const std::string&>(), "#version")) {
      continue;  // The first line of merges.txt, which some converters copied along.
    }
    DW_ASSIGN_OR_RETURN(const auto pair, MergePair(merge));
    const std::string merged = pair.first + pair.second;
    for (const std::string& token : {pair.first, pair.second, merged}) {
      if (ids.contains(token)) continue;
      return Invalid(absl::StrCat("model: merge ", Shown(merge), " needs the token ", Shown(token),
                                  ", which is not in vocab"));
    }
    spec->merges.push_back({ids.at(pair.first), ids.at(pair.second), ids.at(merged)});
  }
  return absl::OkStatus();
}

absl::Status ReadModel(const Json& file, TokenizerSpec* spec, TokenIds* ids) {
  if (!JsonHas(file, "model")) return Invalid("model is absent");
  const Json& model = file["model"];
  // Old files name no type.
  if (!model.is_object() || JsonHas(model, "type")) {
    DW_RETURN_IF_ERROR(tokenizer_json::Type(model, "model", {"BPE"}).status());
  }
  for (const char* name :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    DW_RETURN_IF_ERROR(WantOff(model, name));
  }
  DW_ASSIGN_OR_RETURN(spec->fuse_unk, BoolOr(model, "fuse_unk", Where("model"), false));
  DW_ASSIGN_OR_RETURN(spec->ignore_merges, BoolOr(model, "ignore_merges", Where("model"), false));
  DW_RETURN_IF_ERROR(ReadVocab(model, spec, ids));
  DW_RETURN_IF_ERROR(ReadMerges(model, *ids, spec));
  if (!JsonHas(model, "unk_token")) return absl::OkStatus();
  DW_ASSIGN_OR_RETURN(const std::string unk, JsonString(model, "unk_token", Where("model")));
  const auto id = ids->find(unk);
  if (id == ids->end()) {
    return Invalid(absl::StrCat("model: unk_token ", Shown(unk), " is not in vocab"));
  }
  spec->unk_id = id->second;
  return absl::OkStatus();
}

absl::StatusOr<AddedTokenSpec> ReadAddedToken(const Json& entry) {
  const std::string subject = Where("added_tokens");
  AddedTokenSpec token;
  DW_ASSIGN_OR_RETURN(token.text, JsonString(entry, "content", subject));
  if (token.text.empty() || token.text.size() > kAddedTokenBytesMax) {
    return Invalid(absl::StrCat("added_tokens: a content has ", token.text.size(),
                                " bytes, want 1..", kAddedTokenBytesMax));
  }
  DW_ASSIGN_OR_RETURN(const bool single_word, BoolOr(entry, "single_word", subject, false));
  if (single_word) {
    return Invalid(absl::StrCat("added_tokens: single_word of ", Shown(token.text),
                                " is true, which is not supported; want false"));
  }
  DW_ASSIGN_OR_RETURN(token.lstrip, JsonBool(entry, "lstrip", subject));
  DW_ASSIGN_OR_RETURN(token.rstrip, JsonBool(entry, "rstrip", subject));
  DW_ASSIGN_OR_RETURN(token.special, JsonBool(entry, "special", subject));
  DW_ASSIGN_OR_RETURN(token.normalized, JsonBool(entry, "normalized", subject));
  if (!entry.contains("id")) {
    return Invalid(absl::StrCat("added_tokens: ", Shown(token.text), " has no id"));
  }
  DW_ASSIGN_OR_RETURN(token.id, CheckedId(entry["id"], token.text));
  return token;
}

// The original gives a token its id in vocab or the next free one, whatever the file says; a file
// that says something else was written for another reader.
absl::Status ReadAddedTokens(const Json& file, TokenizerSpec* spec, TokenIds* ids) {
  if (!JsonHas(file, "added_tokens")) return absl::OkStatus();
  if (!file["added_tokens"].is_array()) return Invalid("added_tokens is no list");
  int32_t last_id = -1;
  for (const TokenSpec& token : spec->vocab) last_id = std::max(last_id, token.id);
  int32_t next_id = static_cast<int32_t>(spec->vocab.size());
  const bool dense = last_id + 1 == next_id;
  absl::flat_hash_set<std::string> seen;
  for (const Json& entry : file["added_tokens"]) {
    DW_ASSIGN_OR_RETURN(AddedTokenSpec token, ReadAddedToken(entry));
    if (!seen.insert(token.text).second) {
      return Invalid(absl::StrCat("added_tokens: ", Shown(token.text), " is there twice"));
    }
    const auto known = ids->find(token.text);
    if (known == ids->end() && !dense) {
      return Invalid(absl::StrCat("added_tokens: ", Shown(token.text),
                                  " is not in vocab, whose ids have holes; want ids 0..",
                                  spec->vocab.size() - 1));
    }
    const int32_t want = known == ids->end() ? next_id++ : known->second;
    if (token.id != want) {
      return Invalid(absl::StrCat("added_tokens: the id of ", Shown(token.text), " is ", token.id,
                                  ", want ", want));
    }
    ids->emplace(token.text, token.id);
    spec->added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadTokenizerJson(absl::string_view text) {
  if (text.size() > kTokenizerJsonBytesMax) {
    return Invalid(
        absl::StrCat("has ", text.size(), " bytes, want at most ", kTokenizerJsonBytesMax));
  }
  DW_ASSIGN_OR_RETURN(const Json file, ParseJson(text, "tokenizer.json"));
  if (!file.is_object()) return Invalid("is no JSON object");
  TokenizerSpec spec;
  TokenIds ids;
  // "truncation" and "padding" are not read: lengths are the business of who prepares the data.
  DW_RETURN_IF_ERROR(ReadModel(file, &spec, &ids));
  DW_RETURN_IF_ERROR(ReadAddedTokens(file, &spec, &ids));
  if (JsonHas(file, "normalizer")) {
    DW_RETURN_IF_ERROR(tokenizer_json::ReadNormalizer(file["normalizer"], &spec));
  }
  if (JsonHas(file, "pre_tokenizer")) {
    DW_RETURN_IF_ERROR(tokenizer_json::ReadPreTokenizer(file["pre_tokenizer"], &spec));
  }
  if (spec.pre_tokenizer.empty() ||
      spec.pre_tokenizer.back().kind != PreTokenizerStep::Kind::kByteLevel) {
    return Invalid("pre_tokenizer has no ByteLevel at its end; only byte-level BPE is supported");
  }
  if (JsonHas(file, "post_processor")) {
    DW_RETURN_IF_ERROR(tokenizer_json::ReadPostProcessor(file["post_processor"], ids, &spec));
  }
  DW_RETURN_IF_ERROR(
      tokenizer_json::ReadDecoder(JsonHas(file, "decoder") ? file["decoder"] : Json()));
  return spec;
}

}  // namespace deltaworks::trainer

#include "trainer/tokenizer/tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/byte_alphabet.h"
#include "trainer/tokenizer/nfc.h"
#include "trainer/tokenizer/utf8.h"

namespace deltaworks::trainer {
namespace {

// The added tokens of one kind; the normalised ones with their text normalised as well.
std::vector<AddedTokenSpec> AddedTokensOf(const TokenizerSpec& spec, bool normalized) {
  std::vector<AddedTokenSpec> tokens;
  for (const AddedTokenSpec& token : spec.added_tokens) {
    if (token.normalized != normalized) continue;
    tokens.push_back(token);
    std::string storage;
    if (normalized && spec.nfc) tokens.back().text = std::string(Nfc(token.text, &storage));
  }
  return tokens;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::FromFolder(const std::string& folder) {
  DW_ASSIGN_OR_RETURN(const std::string json,
                      ReadFile(absl::StrCat(folder, "/tokenizer.json"), kTokenizerJsonBytesMax));
  absl::StatusOr<std::string> config =
      ReadFile(absl::StrCat(folder, "/tokenizer_config.json"), kTokenizerJsonBytesMax);
  if (absl::IsNotFound(config.status())) config = "";
  DW_RETURN_IF_ERROR(config.status());
  absl::StatusOr<std::unique_ptr<const Tokenizer>> tokenizer = Parse(json, *config);
  if (tokenizer.ok()) return tokenizer;
  return absl::Status(tokenizer.status().code(),
                      absl::StrCat(folder, "/", tokenizer.status().message()));
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Parse(
    absl::string_view tokenizer_json, absl::string_view tokenizer_config_json) {
  DW_ASSIGN_OR_RETURN(const TokenizerSpec spec, ReadTokenizerJson(tokenizer_json));
  DW_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::Create(spec.pre_tokenizer));
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer(spec, std::move(pre_tokenizer)));
  if (!tokenizer_config_json.empty()) {
    DW_RETURN_IF_ERROR(tokenizer->ReadConfig(tokenizer_config_json));
  }
  return tokenizer;
}

Tokenizer::Tokenizer(const TokenizerSpec& spec, PreTokenizer pre_tokenizer)
    : nfc_(spec.nfc),
      added_tokens_(AddedTokensOf(spec, /*normalized=*/false)),
      normalized_added_tokens_(AddedTokensOf(spec, /*normalized=*/true)),
      pre_tokenizer_(std::move(pre_tokenizer)),
      bpe_(spec),
      prefix_ids_(spec.prefix_ids),
      suffix_ids_(spec.suffix_ids) {
  AddTokenTexts(spec);
}

void Tokenizer::AddTokenTexts(const TokenizerSpec& spec) {
  int32_t last_id = 0;
  for (const TokenSpec& token : spec.vocab) last_id = std::max(last_id, token.id);
  for (const AddedTokenSpec& token : spec.added_tokens) last_id = std::max(last_id, token.id);
  std::vector<absl::string_view> texts(last_id + 1);
  for (const TokenSpec& token : spec.vocab) texts[token.id] = token.text;
  for (const AddedTokenSpec& token : spec.added_tokens) texts[token.id] = token.text;
  token_ids_.reserve(spec.vocab.size() + spec.added_tokens.size());
  for (size_t id = 0; id < texts.size(); ++id) {
    if (texts[id].data() == nullptr) continue;  // A hole in the ids.
    token_ids_.emplace(std::string(texts[id]), static_cast<int32_t>(id));
  }
  // Tokens that are looked for in normalised text are decoded as they stand there.
  const std::vector<AddedTokenSpec> normalized = AddedTokensOf(spec, /*normalized=*/true);
  for (const AddedTokenSpec& token : normalized) texts[token.id] = token.text;
  token_end_.reserve(texts.size());
  for (absl::string_view text : texts) {
    token_bytes_ += AlphabetToBytes(text);
    token_end_.push_back(token_bytes_.size());
  }
  special_.resize(texts.size());
  for (const AddedTokenSpec& token : spec.added_tokens) special_[token.id] = token.special;
}

absl::Status Tokenizer::ReadConfig(absl::string_view tokenizer_config_json) {
  constexpr absl::string_view kSubject = "tokenizer_config.json";
  DW_ASSIGN_OR_RETURN(const Json config, ParseJson(tokenizer_config_json, kSubject));
  if (!config.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(kSubject, ": is no JSON object"));
  }
  const auto read = [&](const std::string& name, std::optional<int32_t>* id) -> absl::Status {
    if (!JsonHas(config, name)) return absl::OkStatus();
    const bool is_object = config[name].is_object();  // {"content": "</s>", "lstrip": ...}
    DW_ASSIGN_OR_RETURN(const std::string token, is_object
                                                     ? JsonString(config[name], "content", kSubject)
                                                     : JsonString(config, name, kSubject));
    *id = TokenId(token);
    if (id->has_value()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(kSubject, ": ", name, " is \"", token, "\", want a token of tokenizer.json"));
  };
  DW_RETURN_IF_ERROR(read("bos_token", &bos_id_));
  DW_RETURN_IF_ERROR(read("eos_token", &eos_id_));
  return read("pad_token", &pad_id_);
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(absl::string_view text,
                                                       const EncodeOptions& options) const {
  if (text.size() > kEncodeBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", text.size(), " bytes, want at most ", kEncodeBytesMax));
  }
  std::string repaired;
  std::vector<AddedTokens::Piece> pieces;
  added_tokens_.Split(ValidUtf8(text, &repaired), options.parse_special, &pieces);
  std::vector<int32_t> ids;
  if (options.add_special) ids = prefix_ids_;
  PreTokenizer::Words words;
  Bpe::Scratch scratch;
  std::string normalized;
  std::vector<AddedTokens::Piece> inner_pieces;
  for (const AddedTokens::Piece& piece : pieces) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
      continue;
    }
    const absl::string_view inner = nfc_ ? Nfc(piece.text, &normalized) : piece.text;
    normalized_added_tokens_.Split(inner, options.parse_special, &inner_pieces);
    for (const AddedTokens::Piece& inner_piece : inner_pieces) {
      if (inner_piece.id >= 0) {
        ids.push_back(inner_piece.id);
        continue;
      }
      DW_RETURN_IF_ERROR(pre_tokenizer_.Split(inner_piece.text, &words));
      for (absl::string_view word : words.views) bpe_.Encode(word, &scratch, &ids);
    }
  }
  if (options.add_special) ids.insert(ids.end(), suffix_ids_.begin(), suffix_ids_.end());
  return ids;
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (skip_special && IsSpecial(id)) continue;
    const absl::string_view token = TokenBytes(id);
    bytes.append(token.data(), token.size());
  }
  std::string repaired;
  return std::string(ValidUtf8(bytes, &repaired));
}

absl::string_view Tokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  const uint64_t begin = id == 0 ? 0 : token_end_[id - 1];
  return absl::string_view(token_bytes_).substr(begin, token_end_[id] - begin);
}

std::optional<int32_t> Tokenizer::TokenId(absl::string_view token) const {
  const auto found = token_ids_.find(token);
  if (found == token_ids_.end()) return std::nullopt;
  return found->second;
}

bool Tokenizer::IsSpecial(int32_t id) const { return id >= 0 && id < vocab_size() && special_[id]; }

bool Tokenizer::HasSpecial(absl::string_view text) const {
  std::string repaired, normalized;
  const absl::string_view valid = ValidUtf8(text, &repaired);
  if (added_tokens_.HasSpecial(valid)) return true;
  return normalized_added_tokens_.HasSpecial(
      nfc_ && valid.size() <= kEncodeBytesMax ? Nfc(valid, &normalized) : valid);
}

}  // namespace deltaworks::trainer

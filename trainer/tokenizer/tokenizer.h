// Tokenizer: text to token ids and back, token for token as Hugging Face tokenizers does it.
//
// Byte-level BPE: added tokens are cut out of the text, the rest is normalised, cut into words
// (pre_tokenizer.h) and each word encoded (bpe.h). What a tokenizer.json may say is in
// tokenizer_spec.h; everything else is refused when it is read, so that no model is ever tokenised
// almost right. tests/golden/tokenizer holds the comparison with the original.
//
// Immutable, so thread-safe. Text that is not valid UTF-8 is repaired first: each maximal invalid
// sequence becomes U+FFFD.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_TOKENIZER_H_
#define DELTAWORKS_TRAINER_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "trainer/tokenizer/added_tokens.h"
#include "trainer/tokenizer/bpe.h"
#include "trainer/tokenizer/pre_tokenizer.h"
#include "trainer/tokenizer/tokenizer_spec.h"

namespace deltaworks::trainer {

inline constexpr size_t kEncodeBytesMax = size_t{1} << 26;

struct EncodeOptions {
  // Special tokens written in the text become their ids: for text that we wrote, such as a
  // rendered chat template. Otherwise they are spelled out: for what a person wrote.
  bool parse_special = false;
  // Adds what the post-processor adds (the bos of Llama). Chat templates write their own.
  bool add_special = false;
};

class Tokenizer {
 public:
  // Reads tokenizer.json and, if it is there, tokenizer_config.json. NotFound if there is no
  // tokenizer.json, InvalidArgument for contents that are wrong or not supported.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> FromFolder(const std::string& folder);

  // The same from the two texts; an empty `tokenizer_config_json` is an absent file.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Parse(
      absl::string_view tokenizer_json, absl::string_view tokenizer_config_json);

  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // InvalidArgument if `text` has more than kEncodeBytesMax bytes; ResourceExhausted if the model's
  // own pattern backtracks too much on it. The known models' patterns do neither.
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                              const EncodeOptions& options = {}) const;

  // Valid UTF-8: bytes that are not become U+FFFD. Ids that are no token are passed over.
  std::string Decode(absl::Span<const int32_t> ids, bool skip_special) const;

  // The bytes that `id` stands for; empty if it is no token.
  absl::string_view TokenBytes(int32_t id) const;

  // By the token's text in tokenizer.json, where a space is written U+0120.
  std::optional<int32_t> TokenId(absl::string_view token) const;

  bool IsSpecial(int32_t id) const;

  // True if Encode() with parse_special would find a special token in `text`.
  bool HasSpecial(absl::string_view text) const;

  // One past the largest id; a model's embedding may have more rows.
  int32_t vocab_size() const { return static_cast<int32_t>(token_end_.size()); }

  // From tokenizer_config.json.
  std::optional<int32_t> bos_id() const { return bos_id_; }
  std::optional<int32_t> eos_id() const { return eos_id_; }
  std::optional<int32_t> pad_id() const { return pad_id_; }

 private:
  Tokenizer(const TokenizerSpec& spec, PreTokenizer pre_tokenizer);
  absl::Status ReadConfig(absl::string_view tokenizer_config_json);
  void AddTokenTexts(const TokenizerSpec& spec);

  const bool nfc_;
  const AddedTokens added_tokens_;             // Looked for in the text as it is,
  const AddedTokens normalized_added_tokens_;  // in the normalised text.
  const PreTokenizer pre_tokenizer_;
  const Bpe bpe_;
  const std::vector<int32_t> prefix_ids_;
  const std::vector<int32_t> suffix_ids_;

  absl::flat_hash_map<std::string, int32_t> token_ids_;
  std::string token_bytes_;          // Of all tokens, by id.
  std::vector<uint64_t> token_end_;  // By id: where its bytes end in token_bytes_.
  std::vector<bool> special_;        // By id.
  std::optional<int32_t> bos_id_;
  std::optional<int32_t> eos_id_;
  std::optional<int32_t> pad_id_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_TOKENIZER_H_

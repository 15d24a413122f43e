// AddedTokens: finds the tokens that are looked for in the text itself, before pre-tokenization.
//
// At each place the longest token that begins there counts, from left to right, without overlap.
// A token may take the white space beside it along. Matching walks a trie, so it costs at most the
// length of the longest token per byte. Immutable, so thread-safe.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_ADDED_TOKENS_H_
#define DELTAWORKS_TRAINER_TOKENIZER_ADDED_TOKENS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "trainer/tokenizer/tokenizer_spec.h"

namespace deltaworks::trainer {

class AddedTokens {
 public:
  struct Piece {
    absl::string_view text;
    int32_t id = -1;  // -1: text between the tokens.
  };

  // Looks for `text` of each token, which must not be empty.
  explicit AddedTokens(std::vector<AddedTokenSpec> tokens);

  // Replaces `pieces` by the pieces of `text`, valid UTF-8, of which none is empty. With
  // `parse_special` false, special tokens are found but left in the text around them.
  void Split(absl::string_view text, bool parse_special, std::vector<Piece>* pieces) const;

  // True if a special token is found in `text`.
  bool HasSpecial(absl::string_view text) const;

 private:
  // The longest token at the beginning of `text`, or nullptr.
  const AddedTokenSpec* Match(absl::string_view text) const;
  int32_t Child(int32_t node, uint8_t byte) const;

  std::vector<AddedTokenSpec> tokens_;
  std::vector<int32_t> node_token_;                  // By node: index into tokens_ or -1.
  std::array<int32_t, 256> root_;                    // Children of node 0; -1: none.
  absl::flat_hash_map<uint64_t, int32_t> children_;  // By node << 8 | byte.
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_ADDED_TOKENS_H_

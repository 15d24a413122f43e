// Bpe: byte-pair encoding of one word.
//
// A word starts as one token per byte; then, as long as any two neighbours have a merge, the one
// of lowest rank is applied, the leftmost first. The candidates wait in a heap, so a word of n
// bytes takes O(n log n). The order of the original (Hugging Face tokenizers, Word::merge_all) is
// kept to the letter, its treatment of stale candidates included.
//
// A byte that has no token becomes unk_id if the model has one; otherwise it is dropped, as the
// original does, and its neighbours may merge. Immutable, so thread-safe.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_BPE_H_
#define DELTAWORKS_TRAINER_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "trainer/tokenizer/tokenizer_spec.h"

namespace deltaworks::trainer {

class Bpe {
 public:
  // Memory that Encode() uses again for the next word; one per thread.
  struct Scratch {
    struct Symbol {
      int32_t id;
      int32_t previous;  // -1: none.
      int32_t next;      // Number of symbols: none. kGone: merged into its left neighbour.
    };
    struct Candidate {
      int32_t rank;
      int32_t position;
      int32_t merged;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  explicit Bpe(const TokenizerSpec& spec);

  // Appends the tokens of `word`, of less than 2^31 bytes, to `ids`.
  void Encode(absl::string_view word, Scratch* scratch, std::vector<int32_t>* ids) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t merged;
  };

  void AppendSymbols(absl::string_view word, std::vector<Scratch::Symbol>* symbols) const;
  void PushCandidate(int32_t position, Scratch* scratch) const;
  void ApplyMerges(Scratch* scratch) const;

  std::array<int32_t, 256> byte_ids_;                // -1: the byte has no token.
  absl::flat_hash_map<uint64_t, Merge> merges_;      // By left id << 32 | right id.
  absl::flat_hash_map<std::string, int32_t> words_;  // By bytes; empty unless ignore_merges.
  const std::optional<int32_t> unk_id_;
  const bool fuse_unk_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_BPE_H_

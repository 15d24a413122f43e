// TokenizerSpec: what a tokenizer.json says, in plain structs.
//
// ReadTokenizerJson() reads the subset that byte-level BPE models use (GPT-2, Llama 3, Qwen2 and 3,
// SmolLM2, ...) and refuses everything else with a sentence, so that no model is ever tokenised
// almost right. Everything in a spec was checked: ids are unique and in range, merges name tokens
// of the vocabulary. Errors are InvalidArgument and begin with "tokenizer.json".

#ifndef DELTAWORKS_TRAINER_TOKENIZER_TOKENIZER_SPEC_H_
#define DELTAWORKS_TRAINER_TOKENIZER_TOKENIZER_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

// Bounds on what is read; the largest tokenizers in use have 262,144 tokens and 34 MB.
inline constexpr int64_t kTokenizerJsonBytesMax = int64_t{128} << 20;
inline constexpr int32_t kTokenIdMax = (1 << 21) - 1;
inline constexpr size_t kAddedTokenBytesMax = 4096;
inline constexpr size_t kPreTokenizerStepsMax = 32;

struct TokenSpec {
  std::string text;  // As in the file, in the byte alphabet (byte_alphabet.h).
  int32_t id = 0;
};

struct MergeSpec {  // Its rank is its place in the list.
  int32_t left = 0;
  int32_t right = 0;
  int32_t merged = 0;
};

// A token that is looked for in the text itself, before any other step.
struct AddedTokenSpec {
  std::string text;
  int32_t id = 0;
  bool special = false;     // Never part of what a person wrote.
  bool normalized = false;  // Looked for after the normalizer rather than before.
  bool lstrip = false;      // Takes the white space on its left with it,
  bool rstrip = false;      // on its right.
};

// Where a match goes when a text is split at the matches of a pattern.
enum class SplitBehavior {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

struct PreTokenizerStep {
  enum class Kind { kSplit, kByteLevel };
  Kind kind = Kind::kSplit;
  // kSplit, as which Digits is read too. `invert`: cut at what the pattern does not match.
  std::string pattern;
  bool pattern_is_literal = false;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
  // kByteLevel, always the last step.
  bool add_prefix_space = false;
  bool use_regex = true;
};

struct TokenizerSpec {
  std::vector<TokenSpec> vocab;  // Without the added tokens that are not in it.
  std::vector<MergeSpec> merges;
  std::vector<AddedTokenSpec> added_tokens;
  std::optional<int32_t> unk_id;
  bool fuse_unk = false;
  bool ignore_merges = false;
  bool nfc = false;
  std::vector<PreTokenizerStep> pre_tokenizer;
  // What the post-processor puts around a text (the bos of Llama).
  std::vector<int32_t> prefix_ids;
  std::vector<int32_t> suffix_ids;
};

absl::StatusOr<TokenizerSpec> ReadTokenizerJson(absl::string_view tokenizer_json);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_TOKENIZER_SPEC_H_

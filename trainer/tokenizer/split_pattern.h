// SplitPattern: a pre-tokenizer's regular expression, with the matches that Oniguruma would find.
//
// Hugging Face tokenizers runs these patterns with Oniguruma (Ruby syntax); here PCRE2 does, with
// UTF, Unicode properties and its JIT. The two differ in places (\s, \w, possessive counts, nested
// classes, anchors, the age of their Unicode tables), so a pattern is translated construct by
// construct and one whose meaning could differ is refused with a sentence.
//
// Immutable after Compile(), so thread-safe. A pattern that backtracks without end is stopped by
// PCRE2's limits.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_SPLIT_PATTERN_H_
#define DELTAWORKS_TRAINER_TOKENIZER_SPLIT_PATTERN_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

struct TextRange {
  size_t begin = 0;
  size_t end = 0;
};

class SplitPattern {
 public:
  // InvalidArgument if `regex` is no pattern, can match nothing, or uses what is not supported.
  static absl::StatusOr<SplitPattern> Compile(absl::string_view regex);

  // A pattern that matches `text` itself.
  static absl::StatusOr<SplitPattern> Literal(absl::string_view text);

  ~SplitPattern();
  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;

  // Replaces `matches` by the matches in `text` (valid UTF-8), from left to right, none empty.
  // ResourceExhausted if the pattern backtracks too much on this text.
  absl::Status FindMatches(absl::string_view text, std::vector<TextRange>* matches) const;

 private:
  struct Code;
  explicit SplitPattern(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

// `regex` from Oniguruma's Ruby syntax into PCRE2's. InvalidArgument names what is not supported.
absl::StatusOr<std::string> TranslateOniguruma(absl::string_view regex);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_SPLIT_PATTERN_H_

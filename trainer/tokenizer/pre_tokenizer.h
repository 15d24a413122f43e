// PreTokenizer: cuts a text into the words that BPE then works on, one at a time.
//
// A list of steps, each of which cuts every piece that the one before left: splits at a pattern,
// then ByteLevel, which may put a space before each piece and cuts at GPT-2's pattern. Unlike the
// original, words stay bytes; the detour over the byte alphabet is not needed.
// Immutable, so thread-safe.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_PRE_TOKENIZER_H_
#define DELTAWORKS_TRAINER_TOKENIZER_PRE_TOKENIZER_H_

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/tokenizer/split_pattern.h"
#include "trainer/tokenizer/tokenizer_spec.h"

namespace deltaworks::trainer {

class PreTokenizer {
 public:
  // The words of a text: views into that text or, where a space was added, into `storage`.
  struct Words {
    std::vector<absl::string_view> views;
    std::deque<std::string> storage;
  };

  static absl::StatusOr<PreTokenizer> Create(const std::vector<PreTokenizerStep>& steps);

  // Replaces `words` by those of `text`, valid UTF-8. No word is empty.
  absl::Status Split(absl::string_view text, Words* words) const;

 private:
  struct Step {
    std::optional<SplitPattern> pattern;  // None: leaves the pieces whole.
    SplitBehavior behavior = SplitBehavior::kIsolated;
    bool invert = false;
    bool add_prefix_space = false;
  };
  explicit PreTokenizer(std::vector<Step> steps) : steps_(std::move(steps)) {}

  std::vector<Step> steps_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_PRE_TOKENIZER_H_

// Python's str methods on UTF-8, as far as chat templates use them. All texts are valid UTF-8;
// positions and counts are in code points. Pure functions.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_JINJA_PYTHON_STRING_H_
#define DELTAWORKS_TRAINER_TOKENIZER_JINJA_PYTHON_STRING_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace deltaworks::trainer::jinja {

// str.lstrip(), rstrip() and strip(); of white space, or of the characters in `chars`.
absl::string_view StripLeft(absl::string_view text, std::optional<absl::string_view> chars = {});
absl::string_view StripRight(absl::string_view text, std::optional<absl::string_view> chars = {});
absl::string_view Strip(absl::string_view text, std::optional<absl::string_view> chars = {});

// len(text)
int64_t Length(absl::string_view text);

// list(text)
std::vector<absl::string_view> Characters(absl::string_view text);

// list(text)[position], which must exist.
absl::string_view CharacterAt(absl::string_view text, int64_t position);

// text.split(): at white space, without empty parts. At most `splits_max` cuts; < 0 is no limit.
std::vector<absl::string_view> SplitSpace(absl::string_view text, int64_t splits_max);

// text.split(separator), which must not be empty.
std::vector<absl::string_view> SplitAt(absl::string_view text, absl::string_view separator,
                                       int64_t splits_max);

// How many parts each of the two would make, without making them.
int64_t CountSplitSpace(absl::string_view text, int64_t splits_max);
int64_t CountSplitAt(absl::string_view text, absl::string_view separator, int64_t splits_max);

// What looking for `what` in `text`, or for all places where it is, costs at worst: in bytes read.
// Wherever `what` could begin it is compared, 64 bytes in about the time that a byte takes.
int64_t FindCost(absl::string_view text, absl::string_view what);

// text.upper(), lower() and capitalize().
std::string Upper(absl::string_view text);
std::string Lower(absl::string_view text);
std::string Capitalize(absl::string_view text);

}  // namespace deltaworks::trainer::jinja

#endif  // DELTAWORKS_TRAINER_TOKENIZER_JINJA_PYTHON_STRING_H_

// What Unicode 15 and 16 added, for a regex library that ends at Unicode 14.
//
// Hugging Face tokenizers 0.23 classifies characters by Unicode 16 (Oniguruma), Debian's PCRE2 by
// Unicode 14, where later characters have no category: a new Han ideograph would not be a letter
// and a word would be cut in another place. So a pattern is matched on a stand-in text, in which
// each such character is replaced by an older one of the same category and the same number of
// bytes; the places of the matches hold for the real text. With a newer PCRE2 nothing changes.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_UNICODE_ADDITIONS_H_
#define DELTAWORKS_TRAINER_TOKENIZER_UNICODE_ADDITIONS_H_

#include <string>

#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

// `text`, valid UTF-8, if it has no such character; otherwise the stand-in, kept in `storage`.
absl::string_view WithKnownCategories(absl::string_view text, std::string* storage);

// The characters that Rust's char::is_numeric knows (Unicode 17) and Unicode 16 does not, as the
// inside of a character class.
inline constexpr absl::string_view kLaterNumerics = "\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}";

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_UNICODE_ADDITIONS_H_

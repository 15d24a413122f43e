// UTF-8 as the tokenizers need it: decoding that is told what is wrong, and repair.
//
// Hugging Face tokenizers work on Rust strings, which are always valid UTF-8. Text that comes from
// elsewhere is repaired as Rust's String::from_utf8_lossy does (Python's errors="replace" agrees):
// each maximal invalid sequence becomes one U+FFFD. Everything here is a pure function.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_UTF8_H_
#define DELTAWORKS_TRAINER_TOKENIZER_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

inline constexpr absl::string_view kReplacementUtf8 = "\xEF\xBF\xBD";  // U+FFFD.

// What a text begins with.
struct Utf8Step {
  enum class Kind {
    kValid,      // `code_point`, in `size_bytes` bytes.
    kInvalid,    // `size_bytes` bytes that together become one U+FFFD.
    kTruncated,  // The text ends inside a sequence that more bytes could complete.
  };
  Kind kind = Kind::kInvalid;
  char32_t code_point = 0;
  size_t size_bytes = 0;
};

// Decodes the beginning of `text`, which must not be empty.
Utf8Step DecodeUtf8(absl::string_view text);

// `text` itself if it is valid UTF-8; otherwise its repair, which is kept in `storage`.
absl::string_view ValidUtf8(absl::string_view text, std::string* storage);

void AppendUtf8(char32_t code_point, std::string* text);

// Unicode's White_Space: what \s means in Rust's and in Oniguruma's patterns.
bool IsWhiteSpace(char32_t code_point);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_UTF8_H_

// Utf8Prefix: how a text is cut to a bound of bytes. Protobuf refuses to read a string that ends
// within a character, so every message that quotes what somebody wrote is cut here. Thread-safe.

#ifndef DELTAWORKS_TRAINER_BASE_UTF8_PREFIX_H_
#define DELTAWORKS_TRAINER_BASE_UTF8_PREFIX_H_

#include <cstddef>

#include "absl/strings/string_view.h"

namespace deltaworks {

// The longest beginning of `text` of at most `size_max` bytes that ends where a character of UTF-8
// does.
inline absl::string_view Utf8Prefix(absl::string_view text, size_t size_max) {
  if (text.size() <= size_max) return text;
  size_t size = size_max;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) --size;
  return text.substr(0, size);
}

}  // namespace deltaworks

#endif  // DELTAWORKS_TRAINER_BASE_UTF8_PREFIX_H_

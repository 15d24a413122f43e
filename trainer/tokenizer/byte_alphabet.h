// The byte alphabet of GPT-2: 256 printable characters that stand for the 256 bytes, so that a
// vocabulary of byte strings can be written as text. Byte 0x20 is written U+0120, for example, and
// 'a' is written 'a'. Pure functions.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_BYTE_ALPHABET_H_
#define DELTAWORKS_TRAINER_TOKENIZER_BYTE_ALPHABET_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

// The character that stands for `byte`, in UTF-8.
std::string ByteToAlphabet(uint8_t byte);

// The bytes that `token`, valid UTF-8, stands for. A token with a character outside the alphabet
// stands for its own bytes, as in Hugging Face's decoder.
std::string AlphabetToBytes(absl::string_view token);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TOKENIZER_BYTE_ALPHABET_H_

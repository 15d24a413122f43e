#include "trainer/tokenizer/byte_alphabet.h"

#include <array>

#include "trainer/tokenizer/utf8.h"

namespace deltaworks::trainer {
namespace {

constexpr char32_t kAlphabetEnd = 0x144;  // One past its largest character.

// Printable Latin-1 stands for itself; the other 68 bytes, in order, are U+0100 and up.
constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int16_t, kAlphabetEnd> byte{};  // -1: not in the alphabet.
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.byte) byte = -1;
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t character = StandsForItself(byte) ? static_cast<char32_t>(byte) : next++;
    alphabet.character[byte] = character;
    alphabet.byte[character] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::string ByteToAlphabet(uint8_t byte) {
  std::string text;
  AppendUtf8(kAlphabet.character[byte], &text);
  return text;
}

std::string AlphabetToBytes(absl::string_view token) {
  std::string bytes;
  for (absl::string_view rest = token; !rest.empty();) {
    const Utf8Step step = DecodeUtf8(rest);
    const int16_t byte = step.code_point < kAlphabetEnd ? kAlphabet.byte[step.code_point] : -1;
    if (byte < 0) return std::string(token);
    bytes.push_back(static_cast<char>(byte));
    rest.remove_prefix(step.size_bytes);
  }
  return bytes;
}

}  // namespace deltaworks::trainer

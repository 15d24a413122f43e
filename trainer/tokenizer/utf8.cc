#include "trainer/tokenizer/utf8.h"

#include <cstdint>
#include <cstring>

#include "glog/logging.h"

namespace deltaworks::trainer {
namespace {

// The first byte that is not ASCII, or the end.
size_t AsciiPrefix(absl::string_view text) {
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if ((word & 0x8080808080808080ULL) != 0) break;
  }
  while (i < text.size() && static_cast<uint8_t>(text[i]) < 0x80) ++i;
  return i;
}

// The length of the longest prefix that is valid.
size_t ValidPrefix(absl::string_view text) {
  size_t i = 0;
  while (true) {
    i += AsciiPrefix(text.substr(i));
    if (i == text.size()) return i;
    const Utf8Step step = DecodeUtf8(text.substr(i));
    if (step.kind != Utf8Step::Kind::kValid) return i;
    i += step.size_bytes;
  }
}

}  // namespace

Utf8Step DecodeUtf8(absl::string_view text) {
  CHECK(!text.empty());
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8Step::Kind::kValid, lead, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8Step::Kind::kInvalid, 0, 1};
  const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte alone tells overlong forms, surrogates and values above U+10FFFF.
  uint8_t low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  char32_t code_point = lead & (0xFF >> (size + 1));
  for (size_t i = 1; i < size; ++i) {
    if (i == text.size()) return {Utf8Step::Kind::kTruncated, 0, i};
    if (byte(i) < low || byte(i) > high) return {Utf8Step::Kind::kInvalid, 0, i};
    code_point = (code_point << 6) | (byte(i) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8Step::Kind::kValid, code_point, size};
}

absl::string_view ValidUtf8(absl::string_view text, std::string* storage) {
  size_t valid = ValidPrefix(text);
  if (valid == text.size()) return text;
  storage->clear();
  absl::string_view rest = text;
  while (true) {
    storage->append(rest.data(), valid);
    rest.remove_prefix(valid);
    if (rest.empty()) return *storage;
    storage->append(kReplacementUtf8.data(), kReplacementUtf8.size());
    rest.remove_prefix(DecodeUtf8(rest).size_bytes);
    valid = ValidPrefix(rest);
  }
}

void AppendUtf8(char32_t code_point, std::string* text) {
  const auto put = [text](char32_t byte) { text->push_back(static_cast<char>(byte)); };
  const auto tail = [&](int shift) { put(0x80 | ((code_point >> shift) & 0x3F)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    tail(0);
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    tail(6);
    tail(0);
  } else {
    put(0xF0 | (code_point >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

bool IsWhiteSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

}  // namespace deltaworks::trainer

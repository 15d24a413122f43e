#include "trainer/tokenizer/jinja/python_string.h"

#include <unicode/locid.h>
#include <unicode/stringoptions.h>
#include <unicode/unistr.h>

#include "trainer/tokenizer/utf8.h"

namespace deltaworks::trainer::jinja {
namespace {

// str.isspace(): White_Space and the four information separators.
bool IsPythonSpace(char32_t c) { return IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

bool IsStripped(absl::string_view character, const std::optional<absl::string_view>& chars) {
  if (!chars.has_value()) return IsPythonSpace(DecodeUtf8(character).code_point);
  // A whole character of valid UTF-8 is never found inside another one.
  return chars->find(character) != absl::string_view::npos;
}

absl::string_view FirstCharacter(absl::string_view text) {
  return text.substr(0, DecodeUtf8(text).size_bytes);
}

absl::string_view LastCharacter(absl::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return text.substr(begin);
}

// str.split(): calls `use` with each part.
template <class Use>
void ForEachWord(absl::string_view text, int64_t splits_max, const Use& use) {
  int64_t count = 0;
  for (text = StripLeft(text); !text.empty(); text = StripLeft(text)) {
    if (splits_max >= 0 && count++ == splits_max) return use(text);
    size_t size = 0;
    while (size < text.size() && !IsStripped(FirstCharacter(text.substr(size)), {})) {
      size += FirstCharacter(text.substr(size)).size();
    }
    use(text.substr(0, size));
    text.remove_prefix(size);
  }
}

// str.split(separator): calls `use` with each part.
template <class Use>
void ForEachPart(absl::string_view text, absl::string_view separator, int64_t splits_max,
                 const Use& use) {
  for (int64_t count = 0; splits_max < 0 || count < splits_max; ++count) {
    const size_t at = text.find(separator);
    if (at == absl::string_view::npos) break;
    use(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  use(text);
}

std::string FromIcu(const icu::UnicodeString& text) {
  std::string utf8;
  text.toUTF8String(utf8);
  return utf8;
}

icu::UnicodeString ToIcu(absl::string_view text) {
  return icu::UnicodeString::fromUTF8({text.data(), static_cast<int32_t>(text.size())});
}

}  // namespace

absl::string_view StripLeft(absl::string_view text, std::optional<absl::string_view> chars) {
  while (!text.empty() && IsStripped(FirstCharacter(text), chars)) {
    text.remove_prefix(FirstCharacter(text).size());
  }
  return text;
}

absl::string_view StripRight(absl::string_view text, std::optional<absl::string_view> chars) {
  while (!text.empty() && IsStripped(LastCharacter(text), chars)) {
    text.remove_suffix(LastCharacter(text).size());
  }
  return text;
}

absl::string_view Strip(absl::string_view text, std::optional<absl::string_view> chars) {
  return StripLeft(StripRight(text, chars), chars);
}

int64_t Length(absl::string_view text) {
  int64_t length = 0;
  for (const char c : text) length += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return length;
}

std::vector<absl::string_view> Characters(absl::string_view text) {
  std::vector<absl::string_view> characters;
  while (!text.empty()) {
    characters.push_back(FirstCharacter(text));
    text.remove_prefix(characters.back().size());
  }
  return characters;
}

absl::string_view CharacterAt(absl::string_view text, int64_t position) {
  for (; position > 0; --position) text.remove_prefix(FirstCharacter(text).size());
  return FirstCharacter(text);
}

std::vector<absl::string_view> SplitSpace(absl::string_view text, int64_t splits_max) {
  std::vector<absl::string_view> parts;
  ForEachWord(text, splits_max, [&](absl::string_view part) { parts.push_back(part); });
  return parts;
}

int64_t CountSplitSpace(absl::string_view text, int64_t splits_max) {
  int64_t count = 0;
  ForEachWord(text, splits_max, [&](absl::string_view) { ++count; });
  return count;
}

std::vector<absl::string_view> SplitAt(absl::string_view text, absl::string_view separator,
                                       int64_t splits_max) {
  std::vector<absl::string_view> parts;
  ForEachPart(text, separator, splits_max, [&](absl::string_view part) { parts.push_back(part); });
  return parts;
}

int64_t CountSplitAt(absl::string_view text, absl::string_view separator, int64_t splits_max) {
  int64_t count = 0;
  ForEachPart(text, separator, splits_max, [&](absl::string_view) { ++count; });
  return count;
}

int64_t FindCost(absl::string_view text, absl::string_view what) {
  if (text.size() < what.size()) return 0;
  return static_cast<int64_t>((text.size() - what.size() + 1) * (1 + what.size() / 64));
}

std::string Upper(absl::string_view text) {
  return FromIcu(ToIcu(text).toUpper(icu::Locale::getRoot()));
}

std::string Lower(absl::string_view text) {
  return FromIcu(ToIcu(text).toLower(icu::Locale::getRoot()));
}

std::string Capitalize(absl::string_view text) {
  return FromIcu(ToIcu(text).toTitle(nullptr, icu::Locale::getRoot(),
                                     U_TITLECASE_WHOLE_STRING | U_TITLECASE_NO_BREAK_ADJUSTMENT));
}

}  // namespace deltaworks::trainer::jinja

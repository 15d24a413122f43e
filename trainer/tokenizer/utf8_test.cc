// Repair must cut invalid bytes as Rust and Python do: one U+FFFD per maximal invalid sequence.

#include "trainer/tokenizer/utf8.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

std::string Repaired(absl::string_view text) {
  std::string storage;
  return std::string(ValidUtf8(text, &storage));
}

TEST(Utf8Test, ValidTextIsGivenBackWithoutACopy) {
  const std::string text = "a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80 and a long run of ASCII";
  std::string storage;
  EXPECT_EQ(ValidUtf8(text, &storage).data(), text.data());
}

TEST(Utf8Test, EachMaximalInvalidSequenceBecomesOneReplacement) {
  // "?" stands for U+FFFD.
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\x80", "?"},
      {"a\xFF"
       "b",
       "a?b"},
      {"\xC0\xAF", "??"},            // Overlong.
      {"\xE0\x9F\xBF", "???"},       // Overlong.
      {"\xED\xA0\x80", "???"},       // A surrogate.
      {"\xF4\x90\x80\x80", "????"},  // Above U+10FFFF.
      {"\xF5\x80", "??"},
      {"\xE2\x82", "?"},  // Cut off.
      {"\xF0\x9F\x98", "?"},
      {"\xE2\x82z", "?z"},
      {"\xF0\x9F\x98\xE2\x82\xAC", "?\xE2\x82\xAC"},
      {"\xC3\xC3\xA9", "?\xC3\xA9"},
      {"12345678\xFF", "12345678?"},
  };
  for (const auto& [text, want] : cases) {
    EXPECT_EQ(Repaired(text), absl::StrReplaceAll(want, {{"?", kReplacementUtf8}})) << text;
  }
}

TEST(Utf8Test, EveryCodePointSurvivesEncodingAndDecoding) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Step step = DecodeUtf8(text);
    ASSERT_EQ(step.kind, Utf8Step::Kind::kValid) << static_cast<uint32_t>(c);
    ASSERT_EQ(step.code_point, c);
    ASSERT_EQ(step.size_bytes, text.size());
  }
}

TEST(Utf8Test, ACutOffSequenceIsTruncatedAndABrokenOneInvalid) {
  EXPECT_EQ(DecodeUtf8("\xF0\x9F").kind, Utf8Step::Kind::kTruncated);
  EXPECT_EQ(DecodeUtf8("\xF0\x9F"
                       "a")
                .kind,
            Utf8Step::Kind::kInvalid);
  EXPECT_EQ(DecodeUtf8("\xED\xA0").kind, Utf8Step::Kind::kInvalid);
}

TEST(Utf8Test, WhiteSpaceIsUnicodesAndNotPcres) {
  EXPECT_TRUE(IsWhiteSpace(U'\u0085'));
  EXPECT_TRUE(IsWhiteSpace(U'\u3000'));
  EXPECT_FALSE(IsWhiteSpace(U'\u180E'));  // Since Unicode 6.3.
  EXPECT_FALSE(IsWhiteSpace(U'\u200B'));
  EXPECT_FALSE(IsWhiteSpace(U'\x1C'));
}

}  // namespace
}  // namespace deltaworks::trainer

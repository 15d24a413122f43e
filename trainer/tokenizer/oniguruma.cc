// TranslateOniguruma: see split_pattern.h. One pass over the pattern, which copies what means the
// same in both dialects, rewrites the few escapes that do not, and refuses everything else.

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/split_pattern.h"

namespace deltaworks::trainer {
namespace {

// General categories, which both libraries define alike; scripts only where they were compared.
constexpr absl::string_view kProperties[] = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N",  "Nd", "Nl", "No", "P", "Pc",
    "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp"};

// Letters that together fold to one character (ss to the sharp s, ...), which only Oniguruma knows.
constexpr absl::string_view kFoldingPairs[] = {"ss", "st", "ff", "fi", "fl"};

constexpr absl::string_view kGroups[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};

class Translator {
 public:
  explicit Translator(absl::string_view regex) : regex_(regex) {}

  absl::StatusOr<std::string> Run() {
    while (!rest().empty()) {
      const char c = rest()[0];
      if (c == '\\') {
        DW_RETURN_IF_ERROR(Escape());
      } else if (c == '[') {
        DW_RETURN_IF_ERROR(Class());
      } else if (c == '(') {
        DW_RETURN_IF_ERROR(Group());
      } else if (c == '{') {
        DW_RETURN_IF_ERROR(Count());
      } else {
        Copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  absl::string_view rest() const { return regex_.substr(position_); }

  void Copy(size_t size) {
    out_.append(rest().data(), size);
    position_ += size;
  }

  absl::Status Refuse(absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("the pattern uses ", what, " at byte ", position_,
                     ", which is not supported; supported are literals, classes without nesting, "
                     "\\s \\S \\d \\D \\r \\n \\t \\f \\v \\x \\u, \\p{..} of a general category "
                     "or Han, (?: (?i: (?= (?! (?<= (?<! (?> groups and * + ? {n,m}"));
  }

  absl::Status Group() {
    if (absl::StartsWith(rest(), "(*")) return Refuse("(*");
    if (!absl::StartsWith(rest(), "(?")) {
      Copy(1);
      return absl::OkStatus();
    }
    for (absl::string_view group : kGroups) {
      if (!absl::StartsWith(rest(), group)) continue;
      if (group == "(?i:") DW_RETURN_IF_ERROR(CheckFolding());
      Copy(group.size());
      return absl::OkStatus();
    }
    return Refuse(rest().substr(0, 3));
  }

  absl::Status CheckFolding() const {
    const std::string lower = absl::AsciiStrToLower(rest());
    for (absl::string_view pair : kFoldingPairs) {
      if (absl::StrContains(lower, pair)) return Refuse(absl::StrCat("(?i: and then ", pair));
    }
    return absl::OkStatus();
  }

  // {n}, {n,} or {n,m}. What Ruby calls {n}? and {n}+ is not what Perl does.
  absl::Status Count() {
    size_t i = 1;
    const auto digits = [&] {
      const size_t begin = i;
      while (i < rest().size() && absl::ascii_isdigit(rest()[i])) ++i;
      return i > begin;
    };
    if (!digits()) return Refuse("{");
    if (i < rest().size() && rest()[i] == ',') {
      ++i;
      digits();
    }
    if (i >= rest().size() || rest()[i] != '}') return Refuse("{");
    ++i;
    if (i < rest().size() && (rest()[i] == '?' || rest()[i] == '+')) {
      return Refuse(rest().substr(0, i + 1));
    }
    Copy(i);
    return absl::OkStatus();
  }

  absl::Status Class() {
    Copy(1);
    if (absl::StartsWith(rest(), "^")) Copy(1);
    if (absl::StartsWith(rest(), "]")) return Refuse("a class that begins with ]");
    while (!rest().empty() && rest()[0] != ']') {
      if (rest()[0] == '\\') {
        DW_RETURN_IF_ERROR(Escape());
        continue;
      }
      if (rest()[0] == '[') return Refuse("[ inside a class");
      if (absl::StartsWith(rest(), "&&")) return Refuse("&& inside a class");
      Copy(1);
    }
    if (rest().empty()) return Refuse("a class without its ]");
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Escape() {
    if (rest().size() < 2) return Refuse("a \\ at its end");
    const char c = rest()[1];
    switch (c) {
      case 's':
        return Replace(2, "\\p{White_Space}");
      case 'S':
        return Replace(2, "\\P{White_Space}");
      case 'v':
        return Replace(2, "\\x{0B}");
      case 'd':
      case 'D':
      case 'r':
      case 'n':
      case 't':
      case 'f':
        Copy(2);
        return absl::OkStatus();
      case 'p':
      case 'P':
        return Property();
      case 'x':
      case 'u':
        return CodePoint();
      default:
        if (!absl::ascii_ispunct(c)) return Refuse(rest().substr(0, 2));
        Copy(2);
        return absl::OkStatus();
    }
  }

  absl::Status Replace(size_t size, absl::string_view text) {
    absl::StrAppend(&out_, text);
    position_ += size;
    return absl::OkStatus();
  }

  absl::Status Property() {
    const size_t end = std::min(rest().find('}'), rest().size());
    if (!absl::StartsWith(rest().substr(2), "{") || end == rest().size()) {
      return Refuse(rest().substr(0, 2));
    }
    const absl::string_view name = rest().substr(3, end - 3);
    if (name == "Han") {
      // The script itself; PCRE2 would also take characters that other scripts share with it.
      return Replace(end + 1, absl::StrCat(rest().substr(0, 2), "{sc:Han}"));
    }
    if (std::find(std::begin(kProperties), std::end(kProperties), name) == std::end(kProperties)) {
      return Refuse(rest().substr(0, std::min<size_t>(end + 1, 40)));
    }
    Copy(end + 1);
    return absl::OkStatus();
  }

  // \x{H..}, \xHH below 80, \uHHHH.
  absl::Status CodePoint() {
    const bool braces = absl::StartsWith(rest(), "\\x{");
    const size_t begin = braces ? 3 : 2;
    const size_t digits_max = braces ? 6 : rest()[1] == 'x' ? 2 : 4;
    uint32_t value = 0;
    size_t i = begin;
    for (; i < rest().size() && i < begin + digits_max && absl::ascii_isxdigit(rest()[i]); ++i) {
      const char digit = absl::ascii_tolower(rest()[i]);
      value = value * 16 + (absl::ascii_isdigit(digit) ? digit - '0' : digit - 'a' + 10);
    }
    const size_t digits = i - begin;
    const bool complete = braces ? digits > 0 && i < rest().size() && rest()[i] == '}'
                                 : digits == digits_max && (digits == 4 || value < 0x80);
    if (!complete) return Refuse(rest().substr(0, std::min<size_t>(rest().size(), i)));
    return Replace(braces ? i + 1 : i, absl::StrFormat("\\x{%X}", value));
  }

  const absl::string_view regex_;
  size_t position_ = 0;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> TranslateOniguruma(absl::string_view regex) {
  return Translator(regex).Run();
}

}  // namespace deltaworks::trainer

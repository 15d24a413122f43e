#include "trainer/tokenizer/jinja/lexer.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/jinja/python_string.h"
#include "trainer/tokenizer/utf8.h"

namespace deltaworks::trainer::jinja {
namespace {

bool IsNameChar(char c) { return absl::ascii_isalnum(c) || c == '_'; }

// The value of a string literal without its quotes: Python's escapes.
absl::StatusOr<std::string> Unescape(absl::string_view literal, int line) {
  std::string value;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      value += literal[i];
      continue;
    }
    const char c = literal[++i];
    constexpr absl::string_view kFrom = "ntrabfv\\'\"";
    constexpr absl::string_view kTo = "\n\t\r\a\b\f\v\\'\"";
    if (const size_t at = kFrom.find(c); at != absl::string_view::npos) {
      value += kTo[at];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      uint32_t code_point = 0;
      const absl::string_view hex = literal.substr(i + 1, digits);
      const bool ok =
          hex.size() == digits && std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit);
      for (size_t k = 0; ok && k < digits; ++k) {
        const char digit = absl::ascii_tolower(hex[k]);
        code_point =
            code_point * 16 + (absl::ascii_isdigit(digit) ? digit - '0' : digit - 'a' + 10);
      }
      if (!ok || code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000)) {
        return TemplateError(
            line, absl::StrCat("the escape \\", std::string(1, c),
                               " is not followed by a character's ", digits, " hex digits"));
      }
      AppendUtf8(code_point, &value);
      i += digits;
    } else if (absl::ascii_isdigit(c) || c == 'N' || c == '\n') {
      return TemplateError(line,
                           absl::StrCat("the escape \\", std::string(1, c), " is not supported"));
    } else {
      value += '\\';
      value += c;
    }
  }
  return value;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), rest_(source_) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (!rest_.empty()) {
      const size_t tag = FindTag();
      const bool has_tag = tag != absl::string_view::npos;
      Text(rest_.substr(0, tag), has_tag ? rest_.substr(tag) : absl::string_view());
      if (!has_tag) break;
      Consume(tag);
      if (rest_[1] == '#') {
        DW_RETURN_IF_ERROR(Comment());
      } else {
        DW_RETURN_IF_ERROR(Tag());
      }
    }
    Add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void Add(Token::Kind kind, absl::string_view text) {
    tokens_.push_back({kind, line_, std::string(text)});
  }

  // Moves past `size` bytes and remembers whether a line begins after them.
  void Consume(size_t size) {
    line_ += static_cast<int>(std::count(rest_.begin(), rest_.begin() + size, '\n'));
    if (size > 0) line_starts_ = rest_[size - 1] == '\n';
    rest_.remove_prefix(size);
  }

  size_t FindTag() const {
    for (size_t at = rest_.find('{'); at != absl::string_view::npos; at = rest_.find('{', at + 1)) {
      if (at + 1 < rest_.size() && absl::StrContains("{%#", rest_[at + 1])) return at;
    }
    return absl::string_view::npos;
  }

  // Adds the text before `tag`, stripped as the tag demands.
  void Text(absl::string_view text, absl::string_view tag) {
    const char sign = tag.size() > 2 ? tag[2] : ' ';
    if (!tag.empty() && sign == '-') {
      text = StripRight(text);
    } else if (!tag.empty() && sign != '+' && tag[1] != '{') {
      const size_t line_begin = text.rfind('\n') + 1;  // npos + 1 is 0.
      if ((line_begin > 0 || line_starts_) && StripRight(text.substr(line_begin)).empty()) {
        text = text.substr(0, line_begin);
      }
    }
    if (!text.empty()) Add(Token::Kind::kText, text);
  }

  // What comes after a tag that ended with `sign`.
  void AfterTag(char sign, bool is_print) {
    if (sign == '-') {
      Consume(rest_.size() - StripLeft(rest_).size());
    } else if (sign != '+' && !is_print && absl::StartsWith(rest_, "\n")) {
      Consume(1);
    }
  }

  absl::Status Comment() {
    const int begin_line = line_;
    const bool signed_begin = rest_.size() > 2 && (rest_[2] == '-' || rest_[2] == '+');
    const size_t begin = signed_begin ? 3 : 2;
    const size_t end = rest_.find("#}", begin);
    if (end == absl::string_view::npos) {
      return TemplateError(begin_line, "a comment {# has no end #}");
    }
    const char sign = end > begin ? rest_[end - 1] : ' ';
    Consume(end + 2);
    AfterTag(sign, /*is_print=*/false);
    return absl::OkStatus();
  }

  absl::Status Tag() {
    const bool is_print = rest_[1] == '{';
    const absl::string_view close = is_print ? "}}" : "%}";
    const int begin_line = line_;
    Add(is_print ? Token::Kind::kPrintBegin : Token::Kind::kBlockBegin, "");
    Consume(rest_.size() > 2 && (rest_[2] == '-' || rest_[2] == '+') ? 3 : 2);
    std::string open_brackets;
    while (true) {
      Consume(rest_.size() - StripLeft(rest_).size());
      if (rest_.empty()) {
        return TemplateError(begin_line, absl::StrCat("a tag has no end ", close));
      }
      const bool has_sign = rest_[0] == '-' || (rest_[0] == '+' && !is_print);
      if (open_brackets.empty() && absl::StartsWith(rest_.substr(has_sign ? 1 : 0), close)) {
        const char sign = has_sign ? rest_[0] : ' ';
        Add(is_print ? Token::Kind::kPrintEnd : Token::Kind::kBlockEnd, "");
        Consume(has_sign ? 3 : 2);
        AfterTag(sign, is_print);
        return absl::OkStatus();
      }
      DW_RETURN_IF_ERROR(Inside(&open_brackets));
    }
  }

  // One token inside a tag.
  absl::Status Inside(std::string* open_brackets) {
    const char c = rest_[0];
    if (c == '\'' || c == '"') return StringLiteral();
    if (absl::ascii_isdigit(c)) return Integer();
    if (IsNameChar(c)) {
      size_t size = 1;
      while (size < rest_.size() && IsNameChar(rest_[size])) ++size;
      Add(Token::Kind::kName, rest_.substr(0, size));
      Consume(size);
      return absl::OkStatus();
    }
    return Operator(open_brackets);
  }

  absl::Status StringLiteral() {
    size_t end = 1;
    while (end < rest_.size() && rest_[end] != rest_[0]) end += rest_[end] == '\\' ? 2 : 1;
    if (end >= rest_.size()) return TemplateError(line_, "a string has no end");
    DW_ASSIGN_OR_RETURN(const std::string value, Unescape(rest_.substr(1, end - 1), line_));
    Add(Token::Kind::kString, value);
    Consume(end + 1);
    return absl::OkStatus();
  }

  absl::Status Integer() {
    size_t size = 1;
    while (size < rest_.size() && IsNameChar(rest_[size])) ++size;
    // 1.5 is a number, the 0.role of messages.0.role is none.
    const bool after_dot =
        tokens_.back().kind == Token::Kind::kOperator && tokens_.back().text == ".";
    if (!after_dot && size + 1 < rest_.size() && rest_[size] == '.' &&
        absl::ascii_isdigit(rest_[size + 1])) {
      for (++size; size < rest_.size() && IsNameChar(rest_[size]);) ++size;
    }
    const absl::string_view text = rest_.substr(0, size);
    const bool digits = std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
    if (!digits || (text[0] == '0' && text.size() > 1)) {
      return TemplateError(line_, absl::StrCat("the number ", text.substr(0, 40),
                                               " is not supported, want decimal digits"));
    }
    Add(Token::Kind::kInteger, text);
    Consume(size);
    return absl::OkStatus();
  }

  absl::Status Operator(std::string* open_brackets) {
    constexpr absl::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (absl::string_view text : kOperators) {
      if (!absl::StartsWith(rest_, text)) continue;
      const char c = text[0];
      if (c == '[' || c == '(' || c == '{') {
        open_brackets->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
      } else if (c == ']' || c == ')' || c == '}') {
        if (open_brackets->empty() || open_brackets->back() != c) {
          return TemplateError(line_, absl::StrCat("a ", text, " closes nothing"));
        }
        open_brackets->pop_back();
      }
      Add(Token::Kind::kOperator, text);
      Consume(text.size());
      return absl::OkStatus();
    }
    const Utf8Step step = DecodeUtf8(rest_);
    return TemplateError(
        line_, absl::StrCat("unexpected \"", rest_.substr(0, step.size_bytes), "\" in a tag"));
  }

  const std::string source_;
  absl::string_view rest_;
  int line_ = 1;
  bool line_starts_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

absl::Status TemplateError(int line, absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", message));
}

absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source) {
  std::string text = absl::StrReplaceAll(source, {{"\r\n", "\n"}, {"\r", "\n"}});
  if (absl::EndsWith(text, "\n")) text.pop_back();
  return Lexer(std::move(text)).Run();
}

}  // namespace deltaworks::trainer::jinja

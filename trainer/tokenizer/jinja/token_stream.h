// TokenStream: the tokens of a template and the place where the parser is. For the two parsers
// (expressions, statements) only. Thread-compatible.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_JINJA_TOKEN_STREAM_H_
#define DELTAWORKS_TRAINER_TOKENIZER_JINJA_TOKEN_STREAM_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "trainer/tokenizer/jinja/lexer.h"

namespace deltaworks::trainer::jinja {

class TokenStream {
 public:
  // `tokens` ends with kEnd.
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  int line() const { return current().line; }
  bool AtOperator(absl::string_view text) const {
    return current().kind == Token::Kind::kOperator && current().text == text;
  }
  bool AtName(absl::string_view text) const {
    return current().kind == Token::Kind::kName && current().text == text;
  }

  void Skip() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  bool SkipOperator(absl::string_view text) {
    const bool skip = AtOperator(text);
    if (skip) Skip();
    return skip;
  }
  bool SkipName(absl::string_view text) {
    const bool skip = AtName(text);
    if (skip) Skip();
    return skip;
  }

  absl::Status ExpectOperator(absl::string_view text) {
    return SkipOperator(text) ? absl::OkStatus() : Unexpected(absl::StrCat("\"", text, "\""));
  }
  absl::Status Expect(Token::Kind kind, absl::string_view want) {
    if (current().kind != kind) return Unexpected(want);
    Skip();
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> ExpectName(absl::string_view want) {
    if (current().kind != Token::Kind::kName) return Unexpected(want);
    std::string name = current().text;
    Skip();
    return name;
  }

  absl::Status Unexpected(absl::string_view want) const {
    const Token::Kind kind = current().kind;
    const std::string got = kind == Token::Kind::kEnd        ? "the end of the template"
                            : kind == Token::Kind::kPrintEnd ? "}}"
                            : kind == Token::Kind::kBlockEnd ? "%}"
                            : kind == Token::Kind::kString   ? "a string"
                                                             : current().text.substr(0, 40);
    return TemplateError(line(), absl::StrCat("got ", got, ", want ", want));
  }

 private:
  const std::vector<Token> tokens_;
  size_t at_ = 0;
};

}  // namespace deltaworks::trainer::jinja

#endif  // DELTAWORKS_TRAINER_TOKENIZER_JINJA_TOKEN_STREAM_H_

// The part of ExpressionParser that applies filters and tests and reads the arguments of calls.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/jinja/expression_parser.h"

namespace deltaworks::trainer::jinja {

using Kind = Expression::Kind;

absl::StatusOr<ExpressionPtr> ExpressionParser::Filter(ExpressionPtr value) {
  const int line = tokens_.line();
  DW_ASSIGN_OR_RETURN(const std::string name, tokens_.ExpectName("the name of a filter"));
  const Builtin* const filter = FindFilter(name);
  if (filter == nullptr) {
    return TemplateError(line, absl::StrCat("the filter ", name, " is not supported"));
  }
  std::vector<Argument> arguments;
  if (tokens_.SkipOperator("(")) {
    DW_ASSIGN_OR_RETURN(arguments, Arguments());
  }
  return Call(Kind::kFilter, "filter", line, filter, std::move(value), std::move(arguments));
}

// x is test, x is not test, x is test(argument), x is test argument.
absl::StatusOr<ExpressionPtr> ExpressionParser::Test(ExpressionPtr value) {
  const int line = tokens_.line();
  const bool negated = tokens_.SkipName("not");
  DW_ASSIGN_OR_RETURN(const std::string name, tokens_.ExpectName("the name of a test"));
  const Builtin* const test = FindTest(name);
  if (test == nullptr) {
    return TemplateError(line, absl::StrCat("the test ", name, " is not supported"));
  }
  std::vector<Argument> arguments;
  if (tokens_.SkipOperator("(")) {
    DW_ASSIGN_OR_RETURN(arguments, Arguments());
  } else if (!test->parameters.empty()) {
    DW_ASSIGN_OR_RETURN(ExpressionPtr argument, Primary());
    DW_ASSIGN_OR_RETURN(argument, Postfix(std::move(argument)));
    arguments.push_back({"", std::move(argument)});
  }
  DW_ASSIGN_OR_RETURN(
      value, Call(Kind::kTest, "test", line, test, std::move(value), std::move(arguments)));
  if (!negated) return value;
  std::vector<ExpressionPtr> children;
  children.push_back(std::move(value));
  return Make(Kind::kNot, line, std::move(children));
}

absl::StatusOr<std::vector<ExpressionParser::Argument>> ExpressionParser::Arguments() {
  std::vector<Argument> arguments;
  while (!tokens_.SkipOperator(")")) {
    Argument argument;
    const bool by_keyword = tokens_.current().kind == Token::Kind::kName &&
                            tokens_.next().kind == Token::Kind::kOperator &&
                            tokens_.next().text == "=";
    if (by_keyword) {
      argument.keyword = tokens_.current().text;
      tokens_.Skip();
      tokens_.Skip();
    } else if (!arguments.empty() && !arguments.back().keyword.empty()) {
      return TemplateError(tokens_.line(), "an argument by position follows one by keyword");
    }
    DW_ASSIGN_OR_RETURN(argument.value, Parse());
    arguments.push_back(std::move(argument));
    if (!tokens_.AtOperator(")")) DW_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
  }
  return arguments;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Call(Kind kind, absl::string_view kind_name,
                                                     int line, const Builtin* builtin,
                                                     ExpressionPtr self,
                                                     std::vector<Argument> arguments) {
  const std::string subject = absl::StrCat("the ", kind_name, " ", builtin->name);
  std::vector<ExpressionPtr> children;
  std::vector<std::string> names;
  if (self != nullptr) children.push_back(std::move(self));
  const size_t first = children.size();
  const bool any_keyword = builtin->function == nullptr;
  if (!any_keyword) children.resize(first + builtin->parameters.size());
  for (size_t i = 0; i < arguments.size(); ++i) {
    Argument& argument = arguments[i];
    if (argument.keyword.empty() && (any_keyword || builtin->keywords_only)) {
      return TemplateError(line, absl::StrCat(subject, " takes its arguments by keyword only"));
    }
    if (any_keyword) {
      names.push_back(argument.keyword);
      children.push_back(std::move(argument.value));
      continue;
    }
    size_t at = i;
    if (!argument.keyword.empty()) {
      at = std::find(builtin->parameters.begin(), builtin->parameters.end(), argument.keyword) -
           builtin->parameters.begin();
    }
    if (at >= builtin->parameters.size() || children[first + at] != nullptr) {
      return TemplateError(line, absl::StrCat(subject, " does not take ", arguments.size(),
                                              " arguments like these"));
    }
    children[first + at] = std::move(argument.value);
  }
  for (int i = 0; i < builtin->required; ++i) {
    if (children[first + i] != nullptr) continue;
    return TemplateError(line, absl::StrCat(subject, " lacks ", builtin->parameters[i]));
  }
  DW_ASSIGN_OR_RETURN(ExpressionPtr call, Make(kind, line, std::move(children)));
  call->builtin = builtin;
  call->names = std::move(names);
  return call;
}

}  // namespace deltaworks::trainer::jinja

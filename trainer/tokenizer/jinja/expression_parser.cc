#include "trainer/tokenizer/jinja/expression_parser.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/jinja/parser.h"

namespace deltaworks::trainer::jinja {
namespace {

using Kind = Expression::Kind;

template <class... Ptrs>
std::vector<ExpressionPtr> Children(Ptrs... children) {
  std::vector<ExpressionPtr> list;
  (list.push_back(std::move(children)), ...);
  return list;
}

absl::Status TooDeep(int line) {
  return TemplateError(
      line, absl::StrCat("an expression is nested deeper than ", kExpressionDepthMax, " levels"));
}

}  // namespace

absl::StatusOr<ExpressionPtr> ExpressionParser::Make(Kind kind, int line,
                                                     std::vector<ExpressionPtr> children) const {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->line = line;
  for (const ExpressionPtr& child : children) {
    if (child != nullptr) expression->depth = std::max(expression->depth, child->depth + 1);
  }
  expression->children = std::move(children);
  if (expression->depth > kExpressionDepthMax) return TooDeep(line);
  return expression;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::MakeLiteral(int line, Value value) const {
  DW_ASSIGN_OR_RETURN(ExpressionPtr expression, Make(Kind::kLiteral, line, {}));
  expression->literal = std::move(value);
  return expression;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Parse() {
  const int line = tokens_.line();
  DW_ASSIGN_OR_RETURN(ExpressionPtr value, Or());
  while (tokens_.SkipName("if")) {
    DW_ASSIGN_OR_RETURN(ExpressionPtr condition, Or());
    ExpressionPtr otherwise;
    if (tokens_.SkipName("else")) {
      // "a if b else c if d else e" recurses.
      if (++depth_ > kExpressionDepthMax) return TooDeep(line);
      DW_ASSIGN_OR_RETURN(otherwise, Parse());
      --depth_;
    }
    DW_ASSIGN_OR_RETURN(
        value, Make(Kind::kCondition, line,
                    Children(std::move(value), std::move(condition), std::move(otherwise))));
  }
  return value;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseTuple() {
  const int line = tokens_.line();
  DW_ASSIGN_OR_RETURN(ExpressionPtr first, Parse());
  if (!tokens_.AtOperator(",")) return first;
  std::vector<ExpressionPtr> items = Children(std::move(first));
  while (tokens_.SkipOperator(",")) {
    if (tokens_.current().kind == Token::Kind::kBlockEnd ||
        tokens_.current().kind == Token::Kind::kPrintEnd) {
      break;
    }
    DW_ASSIGN_OR_RETURN(ExpressionPtr item, Parse());
    items.push_back(std::move(item));
  }
  return Make(Kind::kList, line, std::move(items));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Or() {
  const int line = tokens_.line();
  DW_ASSIGN_OR_RETURN(ExpressionPtr left, And());
  while (tokens_.SkipName("or")) {
    DW_ASSIGN_OR_RETURN(ExpressionPtr right, And());
    DW_ASSIGN_OR_RETURN(left, Make(Kind::kOr, line, Children(std::move(left), std::move(right))));
  }
  return left;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::And() {
  const int line = tokens_.line();
  DW_ASSIGN_OR_RETURN(ExpressionPtr left, Not());
  while (tokens_.SkipName("and")) {
    DW_ASSIGN_OR_RETURN(ExpressionPtr right, Not());
    DW_ASSIGN_OR_RETURN(left, Make(Kind::kAnd, line, Children(std::move(left), std::move(right))));
  }
  return left;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Not() {
  const int line = tokens_.line();
  int count = 0;
  while (tokens_.AtName("not") &&
         !(tokens_.next().kind == Token::Kind::kName && tokens_.next().text == "in")) {
    tokens_.Skip();
    if (++count > kExpressionDepthMax) return TooDeep(line);
  }
  DW_ASSIGN_OR_RETURN(ExpressionPtr value, Comparison());
  for (; count > 0; --count) {
    DW_ASSIGN_OR_RETURN(value, Make(Kind::kNot, line, Children(std::move(value))));
  }
  return value;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Comparison() {
  constexpr absl::string_view kOperators[] = {"==", "!=", "<=", ">=", "<", ">"};
  const int line = tokens_.line();
  DW_ASSIGN_OR_RETURN(ExpressionPtr first, Sum());
  std::vector<std::string> names;
  std::vector<ExpressionPtr> operands = Children(std::move(first));
  while (true) {
    std::string name;
    for (absl::string_view op : kOperators) {
      if (name.empty() && tokens_.SkipOperator(op)) name = std::string(op);
    }
    if (name.empty() && tokens_.SkipName("in")) name = "in";
    if (name.empty() && tokens_.AtName("not") && tokens_.next().kind == Token::Kind::kName &&
        tokens_.next().text == "in") {
      tokens_.Skip();
      tokens_.Skip();
      name = "not in";
    }
    if (name.empty()) break;
    names.push_back(name);
    DW_ASSIGN_OR_RETURN(ExpressionPtr operand, Sum());
    operands.push_back(std::move(operand));
  }
  if (names.empty()) return std::move(operands[0]);
  DW_ASSIGN_OR_RETURN(ExpressionPtr comparison, Make(Kind::kCompare, line, std::move(operands)));
  comparison->names = std::move(names);
  return comparison;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Sum() {
  const int line = tokens_.line();
  DW_ASSIGN_OR_RETURN(ExpressionPtr left, Concat());
  while (tokens_.AtOperator("+") || tokens_.AtOperator("-")) {
    const std::string name = tokens_.current().text;
    tokens_.Skip();
    DW_ASSIGN_OR_RETURN(ExpressionPtr right, Concat());
    DW_ASSIGN_OR_RETURN(left,
                        Make(Kind::kBinary, line, Children(std::move(left), std::move(right))));
    left->name = name;
  }
  return left;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Concat() {
  const int line = tokens_.line();
  DW_ASSIGN_OR_RETURN(ExpressionPtr left, Product());
  while (tokens_.SkipOperator("~")) {
    DW_ASSIGN_OR_RETURN(ExpressionPtr right, Product());
    DW_ASSIGN_OR_RETURN(left,
                        Make(Kind::kBinary, line, Children(std::move(left), std::move(right))));
    left->name = "~";
  }
  return left;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Product() {
  const int line = tokens_.line();
  DW_ASSIGN_OR_RETURN(ExpressionPtr left, Unary(/*with_filters=*/true));
  while (tokens_.AtOperator("*") || tokens_.AtOperator("//") || tokens_.AtOperator("%")) {
    const std::string name = tokens_.current().text;
    tokens_.Skip();
    DW_ASSIGN_OR_RETURN(ExpressionPtr right, Unary(/*with_filters=*/true));
    DW_ASSIGN_OR_RETURN(left,
                        Make(Kind::kBinary, line, Children(std::move(left), std::move(right))));
    left->name = name;
  }
  if (tokens_.AtOperator("/") || tokens_.AtOperator("**")) {
    return TemplateError(
        line, absl::StrCat("the operator ", tokens_.current().text, " is not supported"));
  }
  return left;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Unary(bool with_filters) {
  const int line = tokens_.line();
  // Every nesting of brackets and signs comes through here.
  if (++depth_ > kExpressionDepthMax) return TooDeep(line);
  const absl::Cleanup leave = [this] { --depth_; };
  ExpressionPtr value;
  if (tokens_.SkipOperator("-")) {
    DW_ASSIGN_OR_RETURN(value, Unary(/*with_filters=*/false));
    DW_ASSIGN_OR_RETURN(value, Make(Kind::kNegate, line, Children(std::move(value))));
  } else if (tokens_.AtOperator("+")) {
    return TemplateError(line, "a + before a value is not supported");
  } else {
    DW_ASSIGN_OR_RETURN(value, Primary());
  }
  DW_ASSIGN_OR_RETURN(value, Postfix(std::move(value)));
  if (!with_filters) return value;
  return FiltersAndTests(std::move(value));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Primary() {
  const int line = tokens_.line();
  switch (tokens_.current().kind) {
    case Token::Kind::kName:
      return Name();
    case Token::Kind::kInteger:
      return Integer();
    case Token::Kind::kString: {
      std::string text;  // Strings side by side are one, as in Python.
      while (tokens_.current().kind == Token::Kind::kString) {
        text += tokens_.current().text;
        tokens_.Skip();
      }
      return MakeLiteral(line, Value::String(std::move(text)));
    }
    default:
      break;
  }
  if (tokens_.SkipOperator("[")) return ListItems("]");
  if (tokens_.SkipOperator("{")) return MapItems();
  if (!tokens_.SkipOperator("(")) return tokens_.Unexpected("an expression");
  if (tokens_.AtOperator(")")) return ListItems(")");
  DW_ASSIGN_OR_RETURN(ExpressionPtr value, Parse());
  if (tokens_.SkipOperator(")")) return value;
  DW_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
  DW_ASSIGN_OR_RETURN(ExpressionPtr tuple, ListItems(")"));
  tuple->children.insert(tuple->children.begin(), std::move(value));
  return Make(Kind::kList, line, std::move(tuple->children));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Name() {
  const int line = tokens_.line();
  const std::string name = tokens_.current().text;
  tokens_.Skip();
  if (name == "true" || name == "True") return MakeLiteral(line, Value::Bool(true));
  if (name == "false" || name == "False") return MakeLiteral(line, Value::Bool(false));
  if (name == "none" || name == "None") return MakeLiteral(line, Value::None());
  for (absl::string_view keyword : {"and", "or", "not", "in", "is", "if", "else"}) {
    if (name == keyword) {
      return TemplateError(line, absl::StrCat("got ", name, ", want an expression"));
    }
  }
  if (tokens_.SkipOperator("(")) {
    const Builtin* const function = FindFunction(name);
    if (function == nullptr) {
      return TemplateError(line, absl::StrCat("the function ", name, "() is not supported"));
    }
    DW_ASSIGN_OR_RETURN(std::vector<Argument> arguments, Arguments());
    return Call(Kind::kFunction, "function", line, function, nullptr, std::move(arguments));
  }
  DW_ASSIGN_OR_RETURN(ExpressionPtr variable, Make(Kind::kName, line, {}));
  variable->name = name;
  return variable;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Integer() {
  int64_t value = 0;
  if (!absl::SimpleAtoi(tokens_.current().text, &value)) {
    return TemplateError(
        tokens_.line(),
        absl::StrCat("the number ", tokens_.current().text.substr(0, 40), " is too large"));
  }
  DW_ASSIGN_OR_RETURN(ExpressionPtr literal, MakeLiteral(tokens_.line(), Value::Int(value)));
  tokens_.Skip();
  return literal;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ListItems(absl::string_view close) {
  const int line = tokens_.line();
  std::vector<ExpressionPtr> items;
  while (!tokens_.SkipOperator(close)) {
    DW_ASSIGN_OR_RETURN(ExpressionPtr item, Parse());
    items.push_back(std::move(item));
    if (!tokens_.AtOperator(close)) DW_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
  }
  return Make(Kind::kList, line, std::move(items));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::MapItems() {
  const int line = tokens_.line();
  std::vector<ExpressionPtr> items;
  while (!tokens_.SkipOperator("}")) {
    DW_ASSIGN_OR_RETURN(ExpressionPtr key, Parse());
    DW_RETURN_IF_ERROR(tokens_.ExpectOperator(":"));
    DW_ASSIGN_OR_RETURN(ExpressionPtr value, Parse());
    items.push_back(std::move(key));
    items.push_back(std::move(value));
    if (!tokens_.AtOperator("}")) DW_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
  }
  return Make(Kind::kMap, line, std::move(items));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Postfix(ExpressionPtr value) {
  while (true) {
    if (tokens_.SkipOperator(".")) {
      DW_ASSIGN_OR_RETURN(value, Attribute(std::move(value)));
    } else if (tokens_.SkipOperator("[")) {
      DW_ASSIGN_OR_RETURN(value, Subscript(std::move(value)));
    } else if (tokens_.AtOperator("(")) {
      return TemplateError(tokens_.line(), "calling the value of an expression is not supported");
    } else {
      return value;
    }
  }
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Attribute(ExpressionPtr value) {
  const int line = tokens_.line();
  if (tokens_.current().kind == Token::Kind::kInteger) {  // messages.0 is messages[0].
    DW_ASSIGN_OR_RETURN(ExpressionPtr index, Integer());
    return Make(Kind::kIndex, line, Children(std::move(value), std::move(index)));
  }
  DW_ASSIGN_OR_RETURN(const std::string name, tokens_.ExpectName("the name of an attribute"));
  if (tokens_.SkipOperator("(")) {
    const Builtin* const method = FindMethod(name);
    if (method == nullptr) {
      return TemplateError(line, absl::StrCat("the method .", name, "() is not supported"));
    }
    DW_ASSIGN_OR_RETURN(std::vector<Argument> arguments, Arguments());
    return Call(Kind::kMethod, "method", line, method, std::move(value), std::move(arguments));
  }
  DW_ASSIGN_OR_RETURN(ExpressionPtr attribute,
                      Make(Kind::kAttribute, line, Children(std::move(value))));
  attribute->name = name;
  return attribute;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Subscript(ExpressionPtr value) {
  const int line = tokens_.line();
  std::vector<ExpressionPtr> parts;
  bool is_slice = false;
  while (true) {
    ExpressionPtr part;
    if (!tokens_.AtOperator(":") && !tokens_.AtOperator("]")) {
      DW_ASSIGN_OR_RETURN(part, Parse());
    }
    parts.push_back(std::move(part));
    if (tokens_.SkipOperator("]")) break;
    if (parts.size() == 3) return tokens_.Unexpected("\"]\"");
    DW_RETURN_IF_ERROR(tokens_.ExpectOperator(":"));
    is_slice = true;
  }
  if (!is_slice) {
    if (parts[0] == nullptr) return TemplateError(line, "got ], want an index");
    return Make(Kind::kIndex, line, Children(std::move(value), std::move(parts[0])));
  }
  parts.resize(3);
  return Make(
      Kind::kSlice, line,
      Children(std::move(value), std::move(parts[0]), std::move(parts[1]), std::move(parts[2])));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::FiltersAndTests(ExpressionPtr value) {
  while (true) {
    if (tokens_.SkipOperator("|")) {
      DW_ASSIGN_OR_RETURN(value, Filter(std::move(value)));
    } else if (tokens_.SkipName("is")) {
      DW_ASSIGN_OR_RETURN(value, Test(std::move(value)));
    } else {
      return value;
    }
  }
}

}  // namespace deltaworks::trainer::jinja

// ExpressionParser: the expressions of chat templates, with jinja2's precedences.
// Thread-compatible.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_JINJA_EXPRESSION_PARSER_H_
#define DELTAWORKS_TRAINER_TOKENIZER_JINJA_EXPRESSION_PARSER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/tokenizer/jinja/ast.h"
#include "trainer/tokenizer/jinja/token_stream.h"

namespace deltaworks::trainer::jinja {

class ExpressionParser {
 public:
  // `tokens` must outlive the parser, which moves it past what was parsed.
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  // An expression, "a if b else c" included.
  absl::StatusOr<ExpressionPtr> Parse();

  // An expression where "if" belongs to what comes after it: {% for x in here if ... %}.
  absl::StatusOr<ExpressionPtr> ParseWithoutCondition() { return Or(); }

  // One or more expressions; several make a list.
  absl::StatusOr<ExpressionPtr> ParseTuple();

 private:
  struct Argument {
    std::string keyword;  // Empty: by position.
    ExpressionPtr value;
  };

  // Checks the depth of what it makes.
  absl::StatusOr<ExpressionPtr> Make(Expression::Kind kind, int line,
                                     std::vector<ExpressionPtr> children) const;
  absl::StatusOr<ExpressionPtr> MakeLiteral(int line, Value value) const;

  absl::StatusOr<ExpressionPtr> Or();
  absl::StatusOr<ExpressionPtr> And();
  absl::StatusOr<ExpressionPtr> Not();
  absl::StatusOr<ExpressionPtr> Comparison();
  absl::StatusOr<ExpressionPtr> Sum();      // + -
  absl::StatusOr<ExpressionPtr> Concat();   // ~
  absl::StatusOr<ExpressionPtr> Product();  // * // %
  absl::StatusOr<ExpressionPtr> Unary(bool with_filters);
  absl::StatusOr<ExpressionPtr> Primary();
  absl::StatusOr<ExpressionPtr> Name();
  absl::StatusOr<ExpressionPtr> Integer();
  absl::StatusOr<ExpressionPtr> ListItems(absl::string_view close);
  absl::StatusOr<ExpressionPtr> MapItems();
  absl::StatusOr<ExpressionPtr> Postfix(ExpressionPtr value);
  absl::StatusOr<ExpressionPtr> Attribute(ExpressionPtr value);
  absl::StatusOr<ExpressionPtr> Subscript(ExpressionPtr value);
  absl::StatusOr<ExpressionPtr> FiltersAndTests(ExpressionPtr value);
  absl::StatusOr<ExpressionPtr> Filter(ExpressionPtr value);
  absl::StatusOr<ExpressionPtr> Test(ExpressionPtr value);

  // The arguments of a call, after its "(".
  absl::StatusOr<std::vector<Argument>> Arguments();

  // A call of `builtin`, `kind_name` in messages; the arguments are put in the order of its
  // parameters. `self` is what it is applied to, nullptr for functions.
  absl::StatusOr<ExpressionPtr> Call(Expression::Kind kind, absl::string_view kind_name, int line,
                                     const Builtin* builtin, ExpressionPtr self,
                                     std::vector<Argument> arguments);

  TokenStream& tokens_;
  int depth_ = 0;  // Of the recursion.
};

}  // namespace deltaworks::trainer::jinja

#endif  // DELTAWORKS_TRAINER_TOKENIZER_JINJA_EXPRESSION_PARSER_H_

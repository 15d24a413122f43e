// Evaluator: renders a parsed chat template. One object per rendering. Thread-compatible.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_JINJA_EVALUATOR_H_
#define DELTAWORKS_TRAINER_TOKENIZER_JINJA_EVALUATOR_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/tokenizer/jinja/ast.h"
#include "trainer/tokenizer/jinja/budget.h"
#include "trainer/tokenizer/jinja/value.h"

namespace deltaworks::trainer::jinja {

class Evaluator {
 public:
  Evaluator(Map variables, const Limits& limits);

  // The text of `block`. InvalidArgument for what the template does wrong or raises,
  // ResourceExhausted beyond the limits; both with the line.
  absl::StatusOr<std::string> Render(const Block& block);

 private:
  enum class Flow { kNext, kBreak, kContinue };
  using Scope = absl::flat_hash_map<std::string, Value>;

  absl::StatusOr<Flow> Run(const Block& block);
  absl::StatusOr<Flow> RunStatement(const Statement& statement);
  absl::StatusOr<Flow> RunIf(const Statement& statement);
  absl::StatusOr<Flow> RunFor(const Statement& statement);
  absl::Status RunSet(const Statement& statement);
  absl::Status RunSetBlock(const Statement& statement);
  absl::StatusOr<Flow> RunScope(const Statement& statement);
  absl::StatusOr<List> FilteredItems(const Statement& statement);
  absl::Status Assign(const Statement& statement, const Value& value);
  absl::Status Print(absl::string_view text);

  absl::StatusOr<Value> Evaluate(const Expression& expression);
  absl::StatusOr<Value> EvaluateChildren(const Expression& expression);
  absl::StatusOr<Value> EvaluateCompare(const Expression& expression);
  absl::StatusOr<Value> Apply(const Expression& expression, const std::vector<Value>& children);
  Value Lookup(const std::string& name) const;

  Budget budget_;
  std::vector<Scope> scopes_;  // The innermost is the last.
  std::string output_;
};

}  // namespace deltaworks::trainer::jinja

#endif  // DELTAWORKS_TRAINER_TOKENIZER_JINJA_EVALUATOR_H_

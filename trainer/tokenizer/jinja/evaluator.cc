#include "trainer/tokenizer/jinja/evaluator.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/jinja/builtins.h"

namespace deltaworks::trainer::jinja {
namespace {

using Kind = Expression::Kind;

// The error of one operation, with the line where it happened.
absl::Status At(int line, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("line ", line, ": ", status.message()));
}

// "loop" of jinja2.
absl::StatusOr<Value> LoopValue(const List& items, size_t index) {
  const int64_t number = static_cast<int64_t>(index);
  const int64_t length = static_cast<int64_t>(items.size());
  Map loop;
  loop.entries = {
      {"index", Value::Int(number + 1)},
      {"index0", Value::Int(number)},
      {"revindex", Value::Int(length - number)},
      {"revindex0", Value::Int(length - number - 1)},
      {"first", Value::Bool(index == 0)},
      {"last", Value::Bool(number + 1 == length)},
      {"length", Value::Int(length)},
      {"previtem", index == 0 ? Value() : items[index - 1]},
      {"nextitem", number + 1 == length ? Value() : items[index + 1]},
  };
  return Value::OfMap(std::move(loop));
}

}  // namespace

Evaluator::Evaluator(Map variables, const Limits& limits) : budget_(limits), scopes_(1) {
  for (auto& [name, value] : variables.entries) scopes_[0].emplace(name, std::move(value));
}

absl::StatusOr<std::string> Evaluator::Render(const Block& block) {
  DW_RETURN_IF_ERROR(Run(block).status());
  return std::move(output_);
}

absl::StatusOr<Evaluator::Flow> Evaluator::Run(const Block& block) {
  for (const Statement& statement : block) {
    DW_RETURN_IF_ERROR(At(statement.line, budget_.Step()));
    DW_ASSIGN_OR_RETURN(const Flow flow, RunStatement(statement));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

absl::StatusOr<Evaluator::Flow> Evaluator::RunStatement(const Statement& statement) {
  switch (statement.kind) {
    case Statement::Kind::kText:
      DW_RETURN_IF_ERROR(At(statement.line, Print(statement.text)));
      return Flow::kNext;
    case Statement::Kind::kPrint: {
      DW_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expression));
      const absl::StatusOr<std::string> text = ToText(value);
      DW_RETURN_IF_ERROR(At(statement.line, text.status()));
      DW_RETURN_IF_ERROR(At(statement.line, Print(*text)));
      return Flow::kNext;
    }
    case Statement::Kind::kIf:
      return RunIf(statement);
    case Statement::Kind::kFor:
      return RunFor(statement);
    case Statement::Kind::kSet:
      DW_RETURN_IF_ERROR(RunSet(statement));
      return Flow::kNext;
    case Statement::Kind::kSetBlock:
      DW_RETURN_IF_ERROR(RunSetBlock(statement));
      return Flow::kNext;
    case Statement::Kind::kScope:
      return RunScope(statement);
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  LOG(FATAL) << "no such statement";
}

absl::Status Evaluator::Print(absl::string_view text) {
  const int64_t limit = budget_.limits().output_bytes_max;
  if (static_cast<int64_t>(output_.size() + text.size()) > limit) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the rendered text has more than ", limit, " bytes"));
  }
  // Charged, because {% set %} blocks inside each other keep an output each.
  DW_RETURN_IF_ERROR(budget_.Bytes(static_cast<int64_t>(text.size())));
  absl::StrAppend(&output_, text);
  return absl::OkStatus();
}

absl::StatusOr<Evaluator::Flow> Evaluator::RunIf(const Statement& statement) {
  for (const Statement::Branch& branch : statement.branches) {
    if (branch.condition != nullptr) {
      DW_ASSIGN_OR_RETURN(const Value condition, Evaluate(*branch.condition));
      if (!condition.Truthy()) continue;
    }
    return Run(branch.body);
  }
  return Flow::kNext;
}

absl::StatusOr<List> Evaluator::FilteredItems(const Statement& statement) {
  DW_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expression));
  absl::StatusOr<List> items = Items(value, &budget_);
  DW_RETURN_IF_ERROR(At(statement.line, items.status()));
  if (statement.filter == nullptr) return items;
  List kept;
  for (const Value& item : *items) {
    scopes_.emplace_back();
    DW_RETURN_IF_ERROR(Assign(statement, item));
    DW_ASSIGN_OR_RETURN(const Value keep, Evaluate(*statement.filter));
    scopes_.pop_back();
    if (keep.Truthy()) kept.push_back(item);
  }
  return kept;
}

absl::StatusOr<Evaluator::Flow> Evaluator::RunFor(const Statement& statement) {
  DW_ASSIGN_OR_RETURN(const List items, FilteredItems(statement));
  // As in jinja2, "else" runs unless some turn reached the end of the body; a break in the first
  // turn does not count.
  bool reached_end = false;
  for (size_t i = 0; i < items.size(); ++i) {
    DW_RETURN_IF_ERROR(At(statement.line, budget_.Step()));
    absl::StatusOr<Value> loop = LoopValue(items, i);
    DW_RETURN_IF_ERROR(At(statement.line, loop.status()));
    scopes_.emplace_back();
    scopes_.back()["loop"] = *std::move(loop);
    DW_RETURN_IF_ERROR(Assign(statement, items[i]));
    DW_ASSIGN_OR_RETURN(const Flow flow, Run(statement.body));
    scopes_.pop_back();
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNext) reached_end = true;
  }
  return reached_end ? Flow::kNext : Run(statement.orelse);
}

absl::StatusOr<Evaluator::Flow> Evaluator::RunScope(const Statement& statement) {
  scopes_.emplace_back();
  DW_ASSIGN_OR_RETURN(const Flow flow, Run(statement.body));
  scopes_.pop_back();
  return flow;
}

absl::Status Evaluator::RunSet(const Statement& statement) {
  DW_ASSIGN_OR_RETURN(Value value, Evaluate(*statement.expression));
  if (statement.attribute.empty()) return Assign(statement, value);
  const Value target = Lookup(statement.targets[0]);
  if (!target.is_namespace() || value.is_namespace()) {
    return At(statement.line,
              absl::InvalidArgumentError(
                  absl::StrCat("cannot set an attribute of ", target.KindName(), " to ",
                               value.KindName(), ", want a namespace and a value that is none")));
  }
  target.namespace_attributes().Set(statement.attribute, std::move(value));
  return absl::OkStatus();
}

absl::Status Evaluator::RunSetBlock(const Statement& statement) {
  std::string outer;
  outer.swap(output_);
  DW_RETURN_IF_ERROR(RunScope(statement).status());
  outer.swap(output_);
  const absl::StatusOr<Value> text = MakeString(std::move(outer), &budget_);
  DW_RETURN_IF_ERROR(At(statement.line, text.status()));
  return Assign(statement, *text);
}

absl::Status Evaluator::Assign(const Statement& statement, const Value& value) {
  Scope& scope = scopes_.back();
  if (statement.targets.size() == 1) {
    scope[statement.targets[0]] = value;
    return absl::OkStatus();
  }
  if (!value.is_list() || value.list().size() != statement.targets.size()) {
    return At(statement.line, absl::InvalidArgumentError(absl::StrCat(
                                  "cannot unpack ", value.KindName(), ", want a list of ",
                                  statement.targets.size(), " items")));
  }
  for (size_t i = 0; i < statement.targets.size(); ++i) {
    scope[statement.targets[i]] = value.list()[i];
  }
  return absl::OkStatus();
}

Value Evaluator::Lookup(const std::string& name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (const auto found = scope->find(name); found != scope->end()) return found->second;
  }
  // A function is a value, too; all that templates ask of it is whether it is defined.
  if (name != "strftime_now" && FindFunction(name) != nullptr) return Value::Bool(true);
  return Value();
}

absl::StatusOr<Value> Evaluator::Evaluate(const Expression& expression) {
  DW_RETURN_IF_ERROR(At(expression.line, budget_.Step()));
  switch (expression.kind) {
    case Kind::kLiteral:
      return expression.literal;
    case Kind::kName:
      return Lookup(expression.name);
    case Kind::kAnd:
    case Kind::kOr: {
      DW_ASSIGN_OR_RETURN(Value left, Evaluate(*expression.children[0]));
      if (left.Truthy() == (expression.kind == Kind::kOr)) return left;
      return Evaluate(*expression.children[1]);
    }
    case Kind::kCondition: {
      DW_ASSIGN_OR_RETURN(const Value condition, Evaluate(*expression.children[1]));
      if (condition.Truthy()) return Evaluate(*expression.children[0]);
      if (expression.children[2] == nullptr) return Value();
      return Evaluate(*expression.children[2]);
    }
    case Kind::kCompare:
      return EvaluateCompare(expression);
    default:
      return EvaluateChildren(expression);
  }
}

// a < b < c is a < b and b < c, with b evaluated once.
absl::StatusOr<Value> Evaluator::EvaluateCompare(const Expression& expression) {
  DW_ASSIGN_OR_RETURN(Value left, Evaluate(*expression.children[0]));
  for (size_t i = 0; i < expression.names.size(); ++i) {
    DW_ASSIGN_OR_RETURN(Value right, Evaluate(*expression.children[i + 1]));
    const absl::StatusOr<bool> holds = Compare(expression.names[i], left, right, &budget_);
    DW_RETURN_IF_ERROR(At(expression.line, holds.status()));
    if (!*holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

absl::StatusOr<Value> Evaluator::EvaluateChildren(const Expression& expression) {
  std::vector<Value> children;
  children.reserve(expression.children.size());
  for (const ExpressionPtr& child : expression.children) {
    if (child == nullptr) {
      children.emplace_back();
      continue;
    }
    DW_ASSIGN_OR_RETURN(Value value, Evaluate(*child));
    children.push_back(std::move(value));
  }
  absl::StatusOr<Value> value = Apply(expression, children);
  DW_RETURN_IF_ERROR(At(expression.line, value.status()));
  return value;
}

absl::StatusOr<Value> Evaluator::Apply(const Expression& expression,
                                       const std::vector<Value>& children) {
  switch (expression.kind) {
    case Kind::kNot:
      return Value::Bool(!children[0].Truthy());
    case Kind::kNegate:
      return Arithmetic("-", Value::Int(0), children[0], &budget_);
    case Kind::kBinary:
      return Arithmetic(expression.name, children[0], children[1], &budget_);
    case Kind::kAttribute:
      return Index(children[0], Value::String(expression.name), &budget_);
    case Kind::kIndex:
      return Index(children[0], children[1], &budget_);
    case Kind::kSlice:
      return Slice(children[0], children[1], children[2], children[3], &budget_);
    case Kind::kList:
      return Value::OfList(children);
    case Kind::kMap: {
      Map map;
      for (size_t i = 0; i < children.size(); i += 2) {
        if (!children[i].is_string()) {
          return absl::InvalidArgumentError(
              absl::StrCat("a key is ", children[i].KindName(), ", want a string"));
        }
        DW_RETURN_IF_ERROR(budget_.Read(KeyBytes(map)));
        map.Set(children[i].string(), children[i + 1]);
      }
      return Value::OfMap(std::move(map));
    }
    case Kind::kFunction:
      if (expression.builtin->function == nullptr) {
        Map map;
        for (size_t i = 0; i < children.size(); ++i) {
          DW_RETURN_IF_ERROR(budget_.Read(KeyBytes(map)));
          map.Set(expression.names[i], children[i]);
        }
        DW_ASSIGN_OR_RETURN(Value value, Value::OfMap(std::move(map)));
        return expression.builtin->name == "dict" ? value : Value::NewNamespace(value.map());
      }
      [[fallthrough]];
    case Kind::kMethod:
    case Kind::kFilter:
    case Kind::kTest:
      // Each reads the texts it is given, some of them to make nothing.
      for (const Value& child : children) {
        if (!child.is_string()) continue;
        DW_RETURN_IF_ERROR(budget_.Read(static_cast<int64_t>(child.string().size())));
      }
      return expression.builtin->function(children, &budget_);
    default:
      LOG(FATAL) << "no such expression";
  }
}

}  // namespace deltaworks::trainer::jinja

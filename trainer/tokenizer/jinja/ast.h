// The parsed form of a chat template: statements and expressions, each with its line.
//
// Names of filters, tests, methods and functions were looked up when the template was parsed, so
// nothing unknown is left to be found while rendering. The depth of both trees is bounded by the
// parser, so they may be walked recursively. Immutable once parsed.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_JINJA_AST_H_
#define DELTAWORKS_TRAINER_TOKENIZER_JINJA_AST_H_

#include <memory>
#include <string>
#include <vector>

#include "trainer/tokenizer/jinja/builtins.h"
#include "trainer/tokenizer/jinja/value.h"

namespace deltaworks::trainer::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    kLiteral,    // `literal`
    kName,       // the variable `name`
    kList,       // [children...]
    kMap,        // {children[0]: children[1], ...}
    kAttribute,  // children[0].name
    kIndex,      // children[0][children[1]]
    kSlice,      // children[0][children[1]:children[2]:children[3]]; nullptr where left out
    kFunction,   // function(children...)
    kMethod,     // children[0].method(children[1]...)
    kFilter,     // children[0] | filter(children[1]...)
    kTest,       // children[0] is test(children[1]...)
    kNot,        // not children[0]
    kNegate,     // -children[0]
    kAnd,        // children[0] and children[1]
    kOr,         // children[0] or children[1]
    kBinary,     // children[0] op children[1]: + - * // % ~
    kCompare,    // children[0] names[0] children[1] names[1] children[2]...: == != < > <= >= in
    kCondition,  // children[0] if children[1] else children[2]; nullptr without else
  };
  Kind kind = Kind::kLiteral;
  int line = 0;
  int depth = 1;
  Value literal;
  std::string name;                // Variable, attribute, operator of kBinary.
  std::vector<std::string> names;  // Operators of kCompare ("not in" is one); keywords of
                                   // namespace() and dict(), one per child.
  const Builtin* builtin = nullptr;
  std::vector<ExpressionPtr> children;  // Arguments left out at a call are nullptr.
};

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  enum class Kind {
    kText,      // `text`
    kPrint,     // {{ expression }}
    kIf,        // `branches`: the first whose condition holds
    kFor,       // for targets in expression if filter: body, else orelse
    kSet,       // set targets[0] = expression, or targets[0].attribute = expression
    kSetBlock,  // set targets[0]: body
    kScope,     // body, in a scope of its own ({% generation %})
    kBreak,
    kContinue,
  };
  struct Branch {
    ExpressionPtr condition;  // nullptr: else.
    Block body;
  };
  Kind kind = Kind::kText;
  int line = 0;
  std::string text;
  ExpressionPtr expression;
  ExpressionPtr filter;
  std::vector<std::string> targets;  // More than one: the item or value is unpacked.
  std::string attribute;
  std::vector<Branch> branches;
  Block body;
  Block orelse;
};

}  // namespace deltaworks::trainer::jinja

#endif  // DELTAWORKS_TRAINER_TOKENIZER_JINJA_AST_H_

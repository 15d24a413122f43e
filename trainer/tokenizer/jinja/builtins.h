// The filters, tests, methods and functions that chat templates may use, with the meaning that
// jinja2 and Python give them. Pure functions of their arguments; what they make is charged to the
// budget. Errors are InvalidArgument (a wrong kind of value) or the budget's.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_JINJA_BUILTINS_H_
#define DELTAWORKS_TRAINER_TOKENIZER_JINJA_BUILTINS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "trainer/tokenizer/jinja/budget.h"
#include "trainer/tokenizer/jinja/value.h"

namespace deltaworks::trainer::jinja {

struct Builtin {
  // `arguments` has one value per parameter; those that were left out are undefined. A filter, test
  // or method gets the value it is applied to as arguments[0], which `parameters` does not name.
  using Function = absl::StatusOr<Value> (*)(absl::Span<const Value> arguments, Budget* budget);

  absl::string_view name;
  std::vector<absl::string_view> parameters;
  int required = 0;  // How many of them must be given.
  Function function = nullptr;
  bool keywords_only = false;
};

// nullptr if there is none of that name.
const Builtin* FindFilter(absl::string_view name);
const Builtin* FindTest(absl::string_view name);
const Builtin* FindMethod(absl::string_view name);
// namespace() and dict() take any keywords and are the evaluator's own: their function is nullptr.
const Builtin* FindFunction(absl::string_view name);

// The operators of Expression::kBinary and kCompare.
absl::StatusOr<Value> Arithmetic(absl::string_view op, const Value& a, const Value& b,
                                 Budget* budget);
absl::StatusOr<bool> Compare(absl::string_view op, const Value& a, const Value& b, Budget* budget);

// What {% for %} goes over: the items of a list, keys of a mapping, characters of a string,
// nothing of an undefined value.
absl::StatusOr<List> Items(const Value& value, Budget* budget);

// value[index], undefined if there is none.
absl::StatusOr<Value> Index(const Value& value, const Value& index, Budget* budget);

// value[begin:end:step]; bounds that are none or undefined were left out.
absl::StatusOr<Value> Slice(const Value& value, const Value& begin, const Value& end,
                            const Value& step, Budget* budget);

// What looking for a key costs: in bytes read.
inline int64_t KeyBytes(const Map& map) {
  return static_cast<int64_t>(map.entries.size() * sizeof(Map::Entry));
}

// Whether the characters that a strip takes off are few enough to be looked for one by one.
absl::Status CheckStripped(absl::string_view chars);

// A string, charged to the budget.
absl::StatusOr<Value> MakeString(std::string text, Budget* budget);

}  // namespace deltaworks::trainer::jinja

#endif  // DELTAWORKS_TRAINER_TOKENIZER_JINJA_BUILTINS_H_

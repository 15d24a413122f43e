// The methods, tests and functions of builtins.h. arguments[0] is the value that a method or test
// is applied to.

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/jinja/builtins.h"
#include "trainer/tokenizer/jinja/python_string.h"

namespace deltaworks::trainer::jinja {
namespace {

using Arguments = absl::Span<const Value>;

constexpr int64_t kRangeMax = 100'000;

absl::Status WantString(absl::string_view what, const Value& got) {
  if (got.is_string()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " is ", got.KindName(), ", want a string"));
}

template <absl::string_view (*kStrip)(absl::string_view, std::optional<absl::string_view>)>
absl::StatusOr<Value> StripMethod(Arguments arguments, Budget* budget) {
  DW_RETURN_IF_ERROR(WantString("what is stripped", arguments[0]));
  if (arguments[1].is_undefined() || arguments[1].is_none()) {
    return MakeString(std::string(kStrip(arguments[0].string(), std::nullopt)), budget);
  }
  DW_RETURN_IF_ERROR(WantString("what is stripped off", arguments[1]));
  DW_RETURN_IF_ERROR(CheckStripped(arguments[1].string()));
  return MakeString(std::string(kStrip(arguments[0].string(), arguments[1].string())), budget);
}

template <bool (*kMatches)(absl::string_view, absl::string_view)>
absl::StatusOr<Value> AffixMethod(Arguments arguments, Budget* budget) {
  DW_RETURN_IF_ERROR(WantString("the text", arguments[0]));
  const absl::Span<const Value> affixes =
      arguments[1].is_list() ? arguments[1].list() : arguments.subspan(1, 1);
  for (const Value& affix : affixes) {
    DW_RETURN_IF_ERROR(budget->Step());
    DW_RETURN_IF_ERROR(WantString("the beginning or end that is looked for", affix));
    if (kMatches(arguments[0].string(), affix.string())) return Value::Bool(true);
  }
  return Value::Bool(false);
}

absl::StatusOr<Value> Split(Arguments arguments, Budget* budget) {
  DW_RETURN_IF_ERROR(WantString("what is split", arguments[0]));
  const std::string& text = arguments[0].string();
  if (!arguments[2].is_undefined() && !arguments[2].is_number()) {
    return absl::InvalidArgumentError(
        absl::StrCat("split: maxsplit is ", arguments[2].KindName(), ", want an integer"));
  }
  const int64_t splits_max = arguments[2].is_undefined() ? -1 : arguments[2].number();
  const bool at_space = arguments[1].is_undefined() || arguments[1].is_none();
  if (!at_space) {
    DW_RETURN_IF_ERROR(WantString("what is split at", arguments[1]));
    if (arguments[1].string().empty()) {
      return absl::InvalidArgumentError("split: what is split at is empty");
    }
    DW_RETURN_IF_ERROR(budget->Read(FindCost(text, arguments[1].string())));
  }
  // Charged before it is made: a part of two bytes becomes a value of seventy.
  const int64_t count = at_space ? CountSplitSpace(text, splits_max)
                                 : CountSplitAt(text, arguments[1].string(), splits_max);
  DW_RETURN_IF_ERROR(budget->Bytes(static_cast<int64_t>(text.size()) +
                                   count * static_cast<int64_t>(4 * sizeof(Value))));
  const std::vector<absl::string_view> parts =
      at_space ? SplitSpace(text, splits_max) : SplitAt(text, arguments[1].string(), splits_max);
  List items;
  items.reserve(parts.size());
  for (absl::string_view part : parts) items.push_back(Value::String(std::string(part)));
  return Value::OfList(std::move(items));
}

template <const char* kFilter>
absl::StatusOr<Value> StringOnly(Arguments arguments, Budget* budget) {
  for (const Value& argument : arguments) DW_RETURN_IF_ERROR(WantString(kFilter, argument));
  return FindFilter(kFilter)->function(arguments, budget);
}

constexpr char kUpper[] = "upper";
constexpr char kLower[] = "lower";
constexpr char kCapitalize[] = "capitalize";
constexpr char kReplace[] = "replace";

absl::StatusOr<Value> JoinMethod(Arguments arguments, Budget* budget) {
  DW_RETURN_IF_ERROR(WantString("the separator", arguments[0]));
  DW_ASSIGN_OR_RETURN(const List items, Items(arguments[1], budget));
  for (const Value& item : items) DW_RETURN_IF_ERROR(WantString("what is joined", item));
  const Value call[] = {arguments[1], arguments[0], Value()};
  return FindFilter("join")->function(absl::MakeConstSpan(call), budget);
}

absl::StatusOr<Value> Find(Arguments arguments, Budget* budget) {
  DW_RETURN_IF_ERROR(WantString("the text", arguments[0]));
  DW_RETURN_IF_ERROR(WantString("what is looked for", arguments[1]));
  DW_RETURN_IF_ERROR(budget->Read(FindCost(arguments[0].string(), arguments[1].string())));
  const size_t at = arguments[0].string().find(arguments[1].string());
  if (at == std::string::npos) return Value::Int(-1);
  return Value::Int(Length(absl::string_view(arguments[0].string()).substr(0, at)));
}

absl::StatusOr<const Map*> WantMap(const Value& value) {
  if (value.is_map()) return &value.map();
  return absl::InvalidArgumentError(
      absl::StrCat("a method of mappings is called on ", value.KindName()));
}

absl::StatusOr<Value> ItemsMethod(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const Map* const map, WantMap(arguments[0]));
  List items;
  for (const auto& [key, value] : map->entries) {
    DW_RETURN_IF_ERROR(budget->Bytes(static_cast<int64_t>(key.size() + 4 * sizeof(Value))));
    DW_ASSIGN_OR_RETURN(Value pair, Value::OfList({Value::String(key), value}));
    items.push_back(std::move(pair));
  }
  return Value::OfList(std::move(items));
}

absl::StatusOr<Value> Keys(Arguments arguments, Budget* budget) {
  DW_RETURN_IF_ERROR(WantMap(arguments[0]).status());
  DW_ASSIGN_OR_RETURN(List keys, Items(arguments[0], budget));
  return Value::OfList(std::move(keys));
}

absl::StatusOr<Value> Values(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const Map* const map, WantMap(arguments[0]));
  DW_RETURN_IF_ERROR(budget->Bytes(static_cast<int64_t>(map->entries.size() * sizeof(Value))));
  List values;
  for (const auto& entry : map->entries) values.push_back(entry.second);
  return Value::OfList(std::move(values));
}

absl::StatusOr<Value> Get(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const Map* const map, WantMap(arguments[0]));
  DW_RETURN_IF_ERROR(budget->Read(KeyBytes(*map)));
  const Value* const found = arguments[1].is_string() ? map->Find(arguments[1].string()) : nullptr;
  if (found != nullptr) return *found;
  return arguments[2].is_undefined() ? Value::None() : arguments[2];
}

template <bool (Value::*kIs)() const>
absl::StatusOr<Value> Is(Arguments arguments, Budget*) {
  return Value::Bool((arguments[0].*kIs)());
}

absl::StatusOr<Value> Defined(Arguments arguments, Budget*) {
  return Value::Bool(!arguments[0].is_undefined());
}

absl::StatusOr<Value> IsTrue(Arguments arguments, Budget*) {
  return Value::Bool(arguments[0].is_bool() && arguments[0].number() != 0);
}

absl::StatusOr<Value> IsFalse(Arguments arguments, Budget*) {
  return Value::Bool(arguments[0].is_bool() && arguments[0].number() == 0);
}

absl::StatusOr<Value> Sequence(Arguments arguments, Budget*) {
  const Value& value = arguments[0];
  return Value::Bool(value.is_string() || value.is_list() || value.is_map() ||
                     value.is_undefined());
}

template <int64_t kRest>
absl::StatusOr<Value> Parity(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const Value rest, Arithmetic("%", arguments[0], Value::Int(2), budget));
  return Value::Bool(rest.number() == kRest);
}

absl::StatusOr<Value> DivisibleBy(Arguments arguments, Budget* budget) {
  if (!arguments[0].is_number() || !arguments[1].is_number()) {
    return absl::InvalidArgumentError("divisibleby compares integers only");
  }
  DW_ASSIGN_OR_RETURN(const Value rest, Arithmetic("%", arguments[0], arguments[1], budget));
  return Value::Bool(rest.number() == 0);
}

template <const char* kOperator>
absl::StatusOr<Value> Comparison(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const bool holds, Compare(kOperator, arguments[0], arguments[1], budget));
  return Value::Bool(holds);
}

constexpr char kEq[] = "==", kNe[] = "!=", kLt[] = "<", kGt[] = ">",
               kLe[] = "<=", kGe[] = ">=", kIn[] = "in";

absl::StatusOr<Value> RaiseException(Arguments arguments, Budget*) {
  DW_ASSIGN_OR_RETURN(const std::string message, ToText(arguments[0]));
  return absl::InvalidArgumentError(absl::StrCat("the template says: ", message.substr(0, 1000)));
}

absl::StatusOr<Value> Range(Arguments arguments, Budget* budget) {
  for (const Value& argument : arguments) {
    if (argument.is_number() || argument.is_undefined()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("range: got ", argument.KindName(), ", want integers"));
  }
  const bool one = arguments[1].is_undefined();
  if (arguments[0].is_undefined() || !arguments[2].is_undefined()) {
    return absl::InvalidArgumentError("range takes one or two integers here");
  }
  const int64_t begin = one ? 0 : arguments[0].number();
  const int64_t end = one ? arguments[0].number() : arguments[1].number();
  if (std::min(begin, end) < -kRangeMax || std::max(begin, end) > kRangeMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("range: got ", begin, " to ", end, ", want at most ", kRangeMax));
  }
  DW_RETURN_IF_ERROR(budget->Bytes(static_cast<int64_t>(
      sizeof(Value) * static_cast<size_t>(std::max<int64_t>(end - begin, 0)))));
  List items;
  for (int64_t i = begin; i < end; ++i) items.push_back(Value::Int(i));
  return Value::OfList(std::move(items));
}

// Rendering is a function of the chat alone: the time of day has no place in a training prompt.
// Templates ask "strftime_now is defined" and have a fixed date for when it is not.
absl::StatusOr<Value> StrftimeNow(Arguments, Budget*) {
  return absl::InvalidArgumentError("strftime_now is undefined: rendering does not know the time");
}

const Builtin* FindIn(const std::vector<Builtin>& table, absl::string_view name) {
  const auto found = std::find_if(table.begin(), table.end(),
                                  [&](const Builtin& builtin) { return builtin.name == name; });
  return found == table.end() ? nullptr : &*found;
}

}  // namespace

const Builtin* FindMethod(absl::string_view name) {
  static const auto* const methods = new std::vector<Builtin>{
      {"capitalize", {}, 0, StringOnly<kCapitalize>},
      {"endswith", {"suffix"}, 1, AffixMethod<absl::EndsWith>},
      {"find", {"sub"}, 1, Find},
      {"get", {"key", "default"}, 1, Get},
      {"items", {}, 0, ItemsMethod},
      {"join", {"iterable"}, 1, JoinMethod},
      {"keys", {}, 0, Keys},
      {"lower", {}, 0, StringOnly<kLower>},
      {"lstrip", {"chars"}, 0, StripMethod<StripLeft>},
      {"replace", {"old", "new"}, 2, StringOnly<kReplace>},
      {"rstrip", {"chars"}, 0, StripMethod<StripRight>},
      {"split", {"sep", "maxsplit"}, 0, Split},
      {"startswith", {"prefix"}, 1, AffixMethod<absl::StartsWith>},
      {"strip", {"chars"}, 0, StripMethod<Strip>},
      {"upper", {}, 0, StringOnly<kUpper>},
      {"values", {}, 0, Values},
  };
  return FindIn(*methods, name);
}

const Builtin* FindTest(absl::string_view name) {
  static const auto* const tests = new std::vector<Builtin>{
      {"boolean", {}, 0, Is<&Value::is_bool>},
      {"defined", {}, 0, Defined},
      {"divisibleby", {"num"}, 1, DivisibleBy},
      {"eq", {"other"}, 1, Comparison<kEq>},
      {"equalto", {"other"}, 1, Comparison<kEq>},
      {"even", {}, 0, Parity<0>},
      {"false", {}, 0, IsFalse},
      {"ge", {"other"}, 1, Comparison<kGe>},
      {"gt", {"other"}, 1, Comparison<kGt>},
      {"in", {"seq"}, 1, Comparison<kIn>},
      {"integer", {}, 0, Is<&Value::is_int>},
      {"iterable", {}, 0, Sequence},
      {"le", {"other"}, 1, Comparison<kLe>},
      {"lt", {"other"}, 1, Comparison<kLt>},
      {"mapping", {}, 0, Is<&Value::is_map>},
      {"ne", {"other"}, 1, Comparison<kNe>},
      {"none", {}, 0, Is<&Value::is_none>},
      {"number", {}, 0, Is<&Value::is_number>},
      {"odd", {}, 0, Parity<1>},
      {"sequence", {}, 0, Sequence},
      {"string", {}, 0, Is<&Value::is_string>},
      {"true", {}, 0, IsTrue},
      {"undefined", {}, 0, Is<&Value::is_undefined>},
  };
  return FindIn(*tests, name);
}

const Builtin* FindFunction(absl::string_view name) {
  static const auto* const functions = new std::vector<Builtin>{
      {"dict", {}, 0, nullptr},
      {"namespace", {}, 0, nullptr},
      {"raise_exception", {"message"}, 1, RaiseException},
      {"range", {"start", "stop", "step"}, 1, Range},
      {"strftime_now", {"format"}, 1, StrftimeNow},
  };
  return FindIn(*functions, name);
}

}  // namespace deltaworks::trainer::jinja

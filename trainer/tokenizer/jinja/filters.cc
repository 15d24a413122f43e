// The filters of builtins.h, as jinja2/filters.py defines them. arguments[0] is the filtered value.

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/jinja/builtins.h"
#include "trainer/tokenizer/jinja/python_string.h"

namespace deltaworks::trainer::jinja {
namespace {

using Arguments = absl::Span<const Value>;

absl::StatusOr<Value> Trim(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const std::string text, ToText(arguments[0]));
  if (arguments[1].is_undefined() || arguments[1].is_none()) {
    return MakeString(std::string(Strip(text)), budget);
  }
  DW_ASSIGN_OR_RETURN(const std::string chars, ToText(arguments[1]));
  DW_RETURN_IF_ERROR(CheckStripped(chars));
  return MakeString(std::string(Strip(text, chars)), budget);
}

absl::StatusOr<Value> LengthFilter(Arguments arguments, Budget*) {
  const Value& value = arguments[0];
  if (value.is_string()) return Value::Int(Length(value.string()));
  if (value.is_list()) return Value::Int(static_cast<int64_t>(value.list().size()));
  if (value.is_map()) return Value::Int(static_cast<int64_t>(value.map().entries.size()));
  if (value.is_undefined()) return Value::Int(0);
  return absl::InvalidArgumentError(absl::StrCat(value.KindName(), " has no length"));
}

template <std::string (*kChange)(absl::string_view)>
absl::StatusOr<Value> ChangeCase(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const std::string text, ToText(arguments[0]));
  return MakeString(kChange(text), budget);
}

absl::StatusOr<Value> Default(Arguments arguments, Budget*) {
  const bool absent =
      arguments[0].is_undefined() || (arguments[2].Truthy() && !arguments[0].Truthy());
  if (!absent) return arguments[0];
  return arguments[1].is_undefined() ? Value::String("") : arguments[1];
}

absl::StatusOr<Value> ToJsonFilter(Arguments arguments, Budget* budget) {
  const Value& indent = arguments[1];
  if (!indent.is_undefined() && !indent.is_none() && !indent.is_int()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tojson: indent is ", indent.KindName(), ", want an integer"));
  }
  const int64_t spaces = indent.is_int() ? std::max<int64_t>(indent.number(), 0) : -1;
  DW_ASSIGN_OR_RETURN(std::string json, ToJson(arguments[0], spaces, budget));
  return Value::String(std::move(json));
}

// "a.b" is the attribute b of the attribute a.
absl::StatusOr<Value> AttributePath(Value value, const Value& path, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const std::string text, ToText(path));
  DW_RETURN_IF_ERROR(budget->Read(static_cast<int64_t>(text.size())));  // For each item anew.
  for (absl::string_view part : absl::StrSplit(text, '.')) {
    int64_t number = 0;
    const Value index =
        absl::SimpleAtoi(part, &number) ? Value::Int(number) : Value::String(std::string(part));
    DW_ASSIGN_OR_RETURN(value, Index(value, index, budget));
  }
  return value;
}

absl::StatusOr<Value> Join(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const List items, Items(arguments[0], budget));
  DW_ASSIGN_OR_RETURN(const std::string separator, ToText(arguments[1]));
  std::string joined;
  for (size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (!arguments[2].is_undefined()) {
      DW_ASSIGN_OR_RETURN(item, AttributePath(item, arguments[2], budget));
    }
    DW_ASSIGN_OR_RETURN(const std::string text, ToText(item));
    const absl::string_view before = i == 0 ? absl::string_view() : separator;
    DW_RETURN_IF_ERROR(budget->Bytes(static_cast<int64_t>(text.size() + before.size())));
    absl::StrAppend(&joined, before, text);
  }
  return Value::String(std::move(joined));
}

absl::StatusOr<Value> First(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const List items, Items(arguments[0], budget));
  return items.empty() ? Value() : items.front();
}

absl::StatusOr<Value> Last(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const List items, Items(arguments[0], budget));
  return items.empty() ? Value() : items.back();
}

absl::StatusOr<Value> ListFilter(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(List items, Items(arguments[0], budget));
  return Value::OfList(std::move(items));
}

absl::StatusOr<Value> StringFilter(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(std::string text, ToText(arguments[0]));
  return MakeString(std::move(text), budget);
}

absl::StatusOr<Value> Int(Arguments arguments, Budget*) {
  const Value& value = arguments[0];
  if (value.is_number()) return Value::Int(value.number());
  const Value absent = arguments[1].is_undefined() ? Value::Int(0) : arguments[1];
  if (!value.is_string()) {
    if (!value.is_undefined()) return absent;
    return absl::InvalidArgumentError("an undefined value is no integer");
  }
  int64_t number = 0;
  double real = 0;
  if (absl::SimpleAtoi(value.string(), &number)) return Value::Int(number);
  if (absl::SimpleAtod(value.string(), &real) && std::abs(real) < 9e18) {
    return Value::Int(static_cast<int64_t>(real));
  }
  return absent;
}

absl::StatusOr<Value> Replace(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(const std::string text, ToText(arguments[0]));
  DW_ASSIGN_OR_RETURN(const std::string from, ToText(arguments[1]));
  DW_ASSIGN_OR_RETURN(const std::string to, ToText(arguments[2]));
  if (from.empty()) return absl::InvalidArgumentError("replace: what to replace is empty");
  DW_RETURN_IF_ERROR(budget->Read(FindCost(text, from)));
  const int64_t places = CountSplitAt(text, from, -1) - 1;
  const int64_t growth = places * static_cast<int64_t>(to.size());
  DW_RETURN_IF_ERROR(budget->Bytes(static_cast<int64_t>(text.size()) + growth));
  return Value::String(absl::StrReplaceAll(text, {{from, to}}));
}

absl::StatusOr<Value> Reverse(Arguments arguments, Budget* budget) {
  if (!arguments[0].is_string() && !arguments[0].is_list()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot reverse ", arguments[0].KindName(), ", want a list or a string"));
  }
  return Slice(arguments[0], Value(), Value(), Value::Int(-1), budget);
}

absl::StatusOr<Value> Select(Arguments arguments, bool want, Budget* budget) {
  const Builtin* test = nullptr;
  if (!arguments[2].is_undefined()) {
    DW_ASSIGN_OR_RETURN(const std::string name, ToText(arguments[2]));
    test = FindTest(name);
    if (test == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("the test ", absl::string_view(name).substr(0, 80), " is not supported"));
    }
  }
  DW_ASSIGN_OR_RETURN(const List items, Items(arguments[0], budget));
  List selected;
  for (const Value& item : items) {
    DW_ASSIGN_OR_RETURN(Value value, AttributePath(item, arguments[1], budget));
    if (test != nullptr) {
      const Value test_arguments[] = {value, arguments[3]};
      DW_ASSIGN_OR_RETURN(value, test->function(absl::MakeConstSpan(test_arguments), budget));
    }
    if (value.Truthy() == want) selected.push_back(item);
  }
  return Value::OfList(std::move(selected));
}

absl::StatusOr<Value> SelectAttr(Arguments arguments, Budget* budget) {
  return Select(arguments, true, budget);
}

absl::StatusOr<Value> RejectAttr(Arguments arguments, Budget* budget) {
  return Select(arguments, false, budget);
}

absl::StatusOr<Value> MapFilter(Arguments arguments, Budget* budget) {
  DW_ASSIGN_OR_RETURN(List items, Items(arguments[0], budget));
  for (Value& item : items) {
    DW_ASSIGN_OR_RETURN(item, AttributePath(item, arguments[1], budget));
  }
  return Value::OfList(std::move(items));
}

absl::StatusOr<Value> ItemsFilter(Arguments arguments, Budget* budget) {
  if (arguments[0].is_undefined()) return Value::OfList({});
  const Value call[] = {arguments[0]};
  return FindMethod("items")->function(absl::MakeConstSpan(call), budget);
}

}  // namespace

const Builtin* FindFilter(absl::string_view name) {
  static const auto* const filters = new std::vector<Builtin>{
      {"capitalize", {}, 0, ChangeCase<Capitalize>},
      {"count", {}, 0, LengthFilter},
      {"d", {"default_value", "boolean"}, 0, Default},
      {"default", {"default_value", "boolean"}, 0, Default},
      {"first", {}, 0, First},
      {"int", {"default"}, 0, Int},
      {"items", {}, 0, ItemsFilter},
      {"join", {"d", "attribute"}, 0, Join},
      {"last", {}, 0, Last},
      {"length", {}, 0, LengthFilter},
      {"list", {}, 0, ListFilter},
      {"lower", {}, 0, ChangeCase<Lower>},
      {"map", {"attribute"}, 1, MapFilter, /*keywords_only=*/true},
      {"rejectattr", {"attribute", "test", "value"}, 1, RejectAttr},
      {"replace", {"old", "new"}, 2, Replace},
      {"reverse", {}, 0, Reverse},
      {"selectattr", {"attribute", "test", "value"}, 1, SelectAttr},
      {"string", {}, 0, StringFilter},
      {"tojson", {"indent"}, 0, ToJsonFilter, /*keywords_only=*/true},
      {"trim", {"chars"}, 0, Trim},
      {"upper", {}, 0, ChangeCase<Upper>},
  };
  const auto found = std::find_if(filters->begin(), filters->end(),
                                  [&](const Builtin& filter) { return filter.name == name; });
  return found == filters->end() ? nullptr : &*found;
}

}  // namespace deltaworks::trainer::jinja

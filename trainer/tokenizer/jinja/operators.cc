// The operators of builtins.h: arithmetic, comparison, indexes, slices and what a loop goes over.

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/tokenizer/jinja/builtins.h"
#include "trainer/tokenizer/jinja/python_string.h"

namespace deltaworks::trainer::jinja {
namespace {

constexpr int64_t kItemBytes = sizeof(Value);

int64_t Bytes(const Value& text) { return static_cast<int64_t>(text.string().size()); }

absl::Status WrongKinds(absl::string_view op, const Value& a, const Value& b) {
  return absl::InvalidArgumentError(
      absl::StrCat("cannot compute ", a.KindName(), " ", op, " ", b.KindName()));
}

absl::StatusOr<Value> IntegerArithmetic(absl::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (b == 0) {
    return absl::InvalidArgumentError(absl::StrCat("cannot compute ", a, " ", op, " 0"));
  } else if (b == -1) {  // INT64_MIN // -1 has no int64.
    overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, a, &result);
  } else {
    // Python rounds down, and the rest has the sign of the divisor.
    const int64_t rest = a % b;
    const bool adjust = rest != 0 && (rest < 0) != (b < 0);
    result = op == "//" ? a / b - (adjust ? 1 : 0) : rest + (adjust ? b : 0);
  }
  if (!overflow) return Value::Int(result);
  return absl::InvalidArgumentError(
      absl::StrCat("the result of ", a, " ", op, " ", b, " is larger than 64 bits"));
}

absl::StatusOr<Value> Repeat(const std::string& text, int64_t count, Budget* budget) {
  if (count <= 0 || text.empty()) return Value::String("");
  if (count > budget->limits().bytes_max / static_cast<int64_t>(text.size())) {
    return budget->Bytes(budget->limits().bytes_max + 1);
  }
  DW_RETURN_IF_ERROR(budget->Bytes(count * static_cast<int64_t>(text.size())));
  std::string result;
  for (int64_t i = 0; i < count; ++i) result += text;
  return Value::String(std::move(result));
}

absl::StatusOr<bool> Contains(const Value& container, const Value& item, Budget* budget) {
  if (container.is_string()) {
    if (!item.is_string()) return WrongKinds("in", item, container);
    DW_RETURN_IF_ERROR(budget->Read(FindCost(container.string(), item.string())));
    return container.string().find(item.string()) != std::string::npos;
  }
  if (container.is_map()) {
    DW_RETURN_IF_ERROR(budget->Read(KeyBytes(container.map())));
    return item.is_string() && container.map().Find(item.string()) != nullptr;
  }
  if (container.is_undefined()) return false;
  if (!container.is_list()) return WrongKinds("in", item, container);
  for (const Value& candidate : container.list()) {
    DW_ASSIGN_OR_RETURN(const bool same, Equal(candidate, item, budget));
    if (same) return true;
  }
  return false;
}

// The positions that value[begin:end:step] takes of `size`.
absl::StatusOr<std::vector<int64_t>> SlicePositions(int64_t size, const Value& begin,
                                                    const Value& end, const Value& step) {
  const auto left_out = [](const Value& value) { return value.is_none() || value.is_undefined(); };
  for (const Value* bound : {&begin, &end, &step}) {
    if (left_out(*bound) || bound->is_number()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("a slice is bounded by ", bound->KindName(), ", want integers"));
  }
  const int64_t stride =
      left_out(step) ? 1 : std::clamp<int64_t>(step.number(), -size - 1, size + 1);
  if (stride == 0) return absl::InvalidArgumentError("the step of a slice is 0");
  const int64_t low = stride > 0 ? 0 : -1;
  const int64_t high = stride > 0 ? size : size - 1;
  const auto bound = [&](const Value& value, int64_t absent) {
    if (left_out(value)) return absent;
    const int64_t position = value.number() < 0 ? value.number() + size : value.number();
    return std::clamp(position, low, high);
  };
  const int64_t first = bound(begin, stride > 0 ? low : high);
  const int64_t last = bound(end, stride > 0 ? high : low);
  std::vector<int64_t> positions;
  for (int64_t i = first; stride > 0 ? i < last : i > last; i += stride) positions.push_back(i);
  return positions;
}

}  // namespace

absl::Status CheckStripped(absl::string_view chars) {
  constexpr size_t kCharsBytesMax = 256;
  if (chars.size() <= kCharsBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("what is stripped off has ", chars.size(),
                                                 " bytes, want at most ", kCharsBytesMax));
}

absl::StatusOr<Value> MakeString(std::string text, Budget* budget) {
  DW_RETURN_IF_ERROR(budget->Bytes(static_cast<int64_t>(text.size())));
  return Value::String(std::move(text));
}

absl::StatusOr<Value> Arithmetic(absl::string_view op, const Value& a, const Value& b,
                                 Budget* budget) {
  if (op == "~") {
    DW_ASSIGN_OR_RETURN(const std::string left, ToText(a));
    DW_ASSIGN_OR_RETURN(const std::string right, ToText(b));
    return MakeString(absl::StrCat(left, right), budget);
  }
  if (a.is_number() && b.is_number()) return IntegerArithmetic(op, a.number(), b.number());
  if (op == "+" && a.is_string() && b.is_string()) {
    return MakeString(absl::StrCat(a.string(), b.string()), budget);
  }
  if (op == "+" && a.is_list() && b.is_list()) {
    List items = a.list();
    items.insert(items.end(), b.list().begin(), b.list().end());
    DW_RETURN_IF_ERROR(budget->Bytes(static_cast<int64_t>(items.size()) * kItemBytes));
    return Value::OfList(std::move(items));
  }
  if (op == "*" && a.is_string() && b.is_number()) return Repeat(a.string(), b.number(), budget);
  if (op == "*" && a.is_number() && b.is_string()) return Repeat(b.string(), a.number(), budget);
  return WrongKinds(op, a, b);
}

absl::StatusOr<bool> Compare(absl::string_view op, const Value& a, const Value& b, Budget* budget) {
  if (op == "==") return Equal(a, b, budget);
  if (op == "!=") {
    DW_ASSIGN_OR_RETURN(const bool same, Equal(a, b, budget));
    return !same;
  }
  if (op == "in") return Contains(b, a, budget);
  if (op == "not in") {
    DW_ASSIGN_OR_RETURN(const bool contains, Contains(b, a, budget));
    return !contains;
  }
  int order = 0;  // The order of UTF-8 is that of code points.
  if (a.is_number() && b.is_number()) {
    order = a.number() < b.number() ? -1 : a.number() > b.number() ? 1 : 0;
  } else if (a.is_string() && b.is_string()) {
    DW_RETURN_IF_ERROR(budget->Read(Bytes(a)));
    order = a.string().compare(b.string());
  } else {
    return WrongKinds(op, a, b);
  }
  return op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
}

absl::StatusOr<List> Items(const Value& value, Budget* budget) {
  List items;
  if (value.is_list()) {
    items = value.list();
  } else if (value.is_map()) {
    for (const auto& entry : value.map().entries) items.push_back(Value::String(entry.first));
  } else if (value.is_string()) {
    // Charged before it is made: a character of one byte becomes a value of fifty.
    DW_RETURN_IF_ERROR(budget->Bytes(Length(value.string()) * 3 * kItemBytes));
    for (absl::string_view c : Characters(value.string())) {
      items.push_back(Value::String(std::string(c)));
    }
  } else if (!value.is_undefined()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot go over ", value.KindName(), ", want a list"));
  }
  DW_RETURN_IF_ERROR(budget->Bytes(static_cast<int64_t>(items.size()) * kItemBytes));
  return items;
}

absl::StatusOr<Value> Index(const Value& value, const Value& index, Budget* budget) {
  if (value.is_undefined()) {
    return absl::InvalidArgumentError("cannot take an item or attribute of an undefined value");
  }
  if (index.is_string()) {
    const Map* map = value.is_map()         ? &value.map()
                     : value.is_namespace() ? &value.namespace_attributes()
                                            : nullptr;
    if (map == nullptr) return Value();
    DW_RETURN_IF_ERROR(budget->Read(KeyBytes(*map)));
    const Value* const found = map->Find(index.string());
    return found == nullptr ? Value() : *found;
  }
  if (!index.is_number() || !(value.is_list() || value.is_string())) return Value();
  if (value.is_string()) DW_RETURN_IF_ERROR(budget->Read(Bytes(value)));
  const int64_t size =
      value.is_list() ? static_cast<int64_t>(value.list().size()) : Length(value.string());
  const int64_t position = index.number() < 0 ? index.number() + size : index.number();
  if (position < 0 || position >= size) return Value();
  if (value.is_list()) return value.list()[position];
  return Value::String(std::string(CharacterAt(value.string(), position)));
}

absl::StatusOr<Value> Slice(const Value& value, const Value& begin, const Value& end,
                            const Value& step, Budget* budget) {
  if (!value.is_list() && !value.is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot take a slice of ", value.KindName(), ", want a list or a string"));
  }
  const int64_t size =
      value.is_list() ? static_cast<int64_t>(value.list().size()) : Length(value.string());
  DW_RETURN_IF_ERROR(budget->Bytes(size * kItemBytes));
  DW_ASSIGN_OR_RETURN(const std::vector<int64_t> positions, SlicePositions(size, begin, end, step));
  if (value.is_string()) {
    const std::vector<absl::string_view> characters = Characters(value.string());
    std::string text;
    for (const int64_t position : positions) absl::StrAppend(&text, characters[position]);
    return Value::String(std::move(text));
  }
  List items;
  for (const int64_t position : positions) items.push_back(value.list()[position]);
  return Value::OfList(std::move(items));
}

}  // namespace deltaworks::trainer::jinja

// Value: what an expression of a chat template evaluates to, with Python's rules.
//
// Values are immutable and shared, except a namespace, which templates change by {% set ns.x %}. A
// namespace cannot be put inside another value, and lists and maps are at most kDepthMax deep, so
// there are no cycles and destruction does not recurse far. Strings are valid UTF-8; Python counts
// their code points, and so do Length() and the indexes of templates.
// Thread-compatible: one rendering owns its values.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_JINJA_VALUE_H_
#define DELTAWORKS_TRAINER_TOKENIZER_JINJA_VALUE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/tokenizer/jinja/budget.h"

namespace deltaworks::trainer::jinja {

class Value;
using List = std::vector<Value>;

// Keys in the order of insertion, as in Python.
struct Map {
  using Entry = std::pair<std::string, Value>;
  std::vector<Entry> entries;
  const Value* Find(absl::string_view key) const;
  void Set(absl::string_view key, Value value);
};

class Value {
 public:
  static constexpr int kDepthMax = 32;

  Value() = default;  // Undefined.
  static Value None();
  static Value Bool(bool value);
  static Value Int(int64_t value);
  static Value String(std::string value);
  static Value NewNamespace(Map attributes);
  // InvalidArgument if a namespace is inside, or if it would be deeper than kDepthMax.
  static absl::StatusOr<Value> OfList(List items);
  static absl::StatusOr<Value> OfMap(Map map);

  bool is_undefined() const { return std::holds_alternative<std::monostate>(data_); }
  bool is_none() const { return std::holds_alternative<NoneType>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<int64_t>(data_); }
  bool is_number() const { return is_int() || is_bool(); }  // bool is an int in Python.
  bool is_string() const { return std::holds_alternative<StringPtr>(data_); }
  bool is_list() const { return std::holds_alternative<ListPtr>(data_); }
  bool is_map() const { return std::holds_alternative<MapPtr>(data_); }
  bool is_namespace() const { return std::holds_alternative<NamespacePtr>(data_); }

  // Each must be of the kind that its name says.
  int64_t number() const;
  const std::string& string() const { return *std::get<StringPtr>(data_); }
  const List& list() const { return std::get<ListPtr>(data_)->items; }
  const Map& map() const { return std::get<MapPtr>(data_)->map; }
  Map& namespace_attributes() const { return *std::get<NamespacePtr>(data_); }

  // How many lists and maps are inside each other; 0 for anything else.
  int depth() const;

  // What the value is in a message: "a string", "undefined".
  absl::string_view KindName() const;

  bool Truthy() const;

 private:
  struct NoneType {};
  struct ListBox {
    List items;
    int depth;
  };
  struct MapBox {
    Map map;
    int depth;
  };
  using StringPtr = std::shared_ptr<const std::string>;
  using ListPtr = std::shared_ptr<const ListBox>;
  using MapPtr = std::shared_ptr<const MapBox>;
  using NamespacePtr = std::shared_ptr<Map>;

  std::variant<std::monostate, NoneType, bool, int64_t, StringPtr, ListPtr, MapPtr, NamespacePtr>
      data_;
};

// What {{ value }} prints. InvalidArgument for lists, maps and namespaces, whose Python form no
// model was trained on.
absl::StatusOr<std::string> ToText(const Value& value);

// Python's ==. Errors are those of `budget`, as below.
absl::StatusOr<bool> Equal(const Value& a, const Value& b, Budget* budget);

// json.dumps(value, ensure_ascii=False, indent=...); indent < 0 is None.
absl::StatusOr<std::string> ToJson(const Value& value, int64_t indent, Budget* budget);

}  // namespace deltaworks::trainer::jinja

#endif  // DELTAWORKS_TRAINER_TOKENIZER_JINJA_VALUE_H_

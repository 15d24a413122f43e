#include "trainer/tokenizer/jinja/value.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer::jinja {
namespace {

// The depth of a container of `children`, checked.
template <class Children, class Get>
absl::StatusOr<int> ContainerDepth(const Children& children, const Get& get) {
  int depth = 1;
  for (const auto& child : children) {
    if (get(child).is_namespace()) {
      return absl::InvalidArgumentError("a namespace cannot be put inside another value");
    }
    depth = std::max(depth, get(child).depth() + 1);
  }
  if (depth > Value::kDepthMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a list is nested deeper than ", Value::kDepthMax, " levels"));
  }
  return depth;
}

void AppendJsonString(const std::string& text, std::string* json) {
  json->push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
        *json += "\\\"";
        break;
      case '\\':
        *json += "\\\\";
        break;
      case '\n':
        *json += "\\n";
        break;
      case '\r':
        *json += "\\r";
        break;
      case '\t':
        *json += "\\t";
        break;
      case '\b':
        *json += "\\b";
        break;
      case '\f':
        *json += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          absl::StrAppendFormat(json, "\\u%04x", static_cast<unsigned char>(c));
        } else {
          json->push_back(c);
        }
    }
  }
  json->push_back('"');
}

class JsonWriter {
 public:
  JsonWriter(int64_t indent, Budget* budget) : indent_(indent), budget_(budget) {}

  absl::Status Write(const Value& value, int64_t level) {
    DW_RETURN_IF_ERROR(budget_->Step());
    const size_t before = json_.size();
    if (value.is_list()) {
      json_ += '[';
      for (size_t i = 0; i < value.list().size(); ++i) {
        Separate(i == 0, level + 1);
        DW_RETURN_IF_ERROR(Write(value.list()[i], level + 1));
      }
      Close(']', value.list().empty(), level);
    } else if (value.is_map()) {
      const auto& entries = value.map().entries;
      json_ += '{';
      for (size_t i = 0; i < entries.size(); ++i) {
        Separate(i == 0, level + 1);
        AppendJsonString(entries[i].first, &json_);
        json_ += ": ";
        DW_RETURN_IF_ERROR(Write(entries[i].second, level + 1));
      }
      Close('}', entries.empty(), level);
    } else if (value.is_string()) {
      AppendJsonString(value.string(), &json_);
    } else if (value.is_none()) {
      json_ += "null";
    } else if (value.is_bool()) {
      json_ += value.number() != 0 ? "true" : "false";
    } else if (value.is_int()) {
      absl::StrAppend(&json_, value.number());
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("tojson cannot write a value that is ", value.KindName()));
    }
    return budget_->Bytes(static_cast<int64_t>(json_.size() - before));
  }

  std::string TakeJson() { return std::move(json_); }

 private:
  void Separate(bool first, int64_t level) {
    if (!first) json_ += indent_ < 0 ? ", " : ",";
    NewLine(level);
  }
  void Close(char bracket, bool empty, int64_t level) {
    if (!empty) NewLine(level);
    json_ += bracket;
  }
  void NewLine(int64_t level) {
    if (indent_ < 0) return;
    json_ += '\n';
    json_.append(static_cast<size_t>(indent_ * level), ' ');
  }

  const int64_t indent_;
  Budget* const budget_;
  std::string json_;
};

}  // namespace

const Value* Map::Find(absl::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Map::Set(absl::string_view key, Value value) {
  for (auto& [name, old] : entries) {
    if (name != key) continue;
    old = std::move(value);
    return;
  }
  entries.emplace_back(std::string(key), std::move(value));
}

Value Value::None() {
  Value value;
  value.data_ = NoneType{};
  return value;
}

Value Value::Bool(bool boolean) {
  Value value;
  value.data_ = boolean;
  return value;
}

Value Value::Int(int64_t number) {
  Value value;
  value.data_ = number;
  return value;
}

Value Value::String(std::string text) {
  Value value;
  value.data_ = std::make_shared<const std::string>(std::move(text));
  return value;
}

Value Value::NewNamespace(Map attributes) {
  Value value;
  value.data_ = std::make_shared<Map>(std::move(attributes));
  return value;
}

absl::StatusOr<Value> Value::OfList(List items) {
  DW_ASSIGN_OR_RETURN(const int depth,
                      ContainerDepth(items, [](const Value& v) -> const Value& { return v; }));
  Value value;
  value.data_ = std::make_shared<const ListBox>(ListBox{std::move(items), depth});
  return value;
}

absl::StatusOr<Value> Value::OfMap(Map map) {
  DW_ASSIGN_OR_RETURN(
      const int depth,
      ContainerDepth(map.entries, [](const auto& entry) -> const Value& { return entry.second; }));
  Value value;
  value.data_ = std::make_shared<const MapBox>(MapBox{std::move(map), depth});
  return value;
}

int64_t Value::number() const {
  CHECK(is_number());
  return is_bool() ? static_cast<int64_t>(std::get<bool>(data_)) : std::get<int64_t>(data_);
}

int Value::depth() const {
  if (is_list()) return std::get<ListPtr>(data_)->depth;
  if (is_map()) return std::get<MapPtr>(data_)->depth;
  return 0;
}

absl::string_view Value::KindName() const {
  constexpr absl::string_view kNames[] = {"undefined", "none",   "a boolean", "an integer",
                                          "a string",  "a list", "a mapping", "a namespace"};
  return kNames[data_.index()];
}

bool Value::Truthy() const {
  if (is_number()) return number() != 0;
  if (is_string()) return !string().empty();
  if (is_list()) return !list().empty();
  if (is_map()) return !map().entries.empty();
  return is_namespace();
}

absl::StatusOr<std::string> ToText(const Value& value) {
  if (value.is_undefined()) return std::string();
  if (value.is_none()) return std::string("None");
  if (value.is_bool()) return std::string(value.number() != 0 ? "True" : "False");
  if (value.is_int()) return absl::StrCat(value.number());
  if (value.is_string()) return value.string();
  return absl::InvalidArgumentError(absl::StrCat("cannot print ", value.KindName(), ", want text"));
}

absl::StatusOr<bool> Equal(const Value& a, const Value& b, Budget* budget) {
  DW_RETURN_IF_ERROR(budget->Step());
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.is_string() && b.is_string()) {
    if (a.string().size() != b.string().size()) return false;
    DW_RETURN_IF_ERROR(budget->Read(static_cast<int64_t>(a.string().size())));
    return a.string() == b.string();
  }
  if (a.is_list() && b.is_list()) {
    if (a.list().size() != b.list().size()) return false;
    for (size_t i = 0; i < a.list().size(); ++i) {
      DW_ASSIGN_OR_RETURN(const bool same, Equal(a.list()[i], b.list()[i], budget));
      if (!same) return false;
    }
    return true;
  }
  if (a.is_map() && b.is_map()) {
    if (a.map().entries.size() != b.map().entries.size()) return false;
    const auto keys_bytes = static_cast<int64_t>(a.map().entries.size() * sizeof(Map::Entry));
    for (const auto& [key, value] : a.map().entries) {
      DW_RETURN_IF_ERROR(budget->Step());
      DW_RETURN_IF_ERROR(budget->Read(keys_bytes));
      const Value* const other = b.map().Find(key);
      if (other == nullptr) return false;
      DW_ASSIGN_OR_RETURN(const bool same, Equal(value, *other, budget));
      if (!same) return false;
    }
    return true;
  }
  if (a.is_namespace() && b.is_namespace()) {
    return &a.namespace_attributes() == &b.namespace_attributes();
  }
  return (a.is_undefined() && b.is_undefined()) || (a.is_none() && b.is_none());
}

absl::StatusOr<std::string> ToJson(const Value& value, int64_t indent, Budget* budget) {
  if (indent > 16) {
    return absl::InvalidArgumentError(
        absl::StrCat("tojson: indent is ", indent, ", want at most 16"));
  }
  JsonWriter writer(indent, budget);
  DW_RETURN_IF_ERROR(writer.Write(value, 0));
  return writer.TakeJson();
}

}  // namespace deltaworks::trainer::jinja

// The typed accessors of Gguf. Bytes were validated by the parser; only types are checked here.

#include "trainer/formats/gguf_values.h"

#include <charconv>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/gguf.h"

namespace deltaworks::trainer {
namespace {

constexpr absl::string_view kNames[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                        "int32",  "float32", "bool",   "string", "array",
                                        "uint64", "int64",   "float64"};

template <typename T>
T Load(const GgufValue& value, uint64_t index) {
  T result;
  std::memcpy(&result, value.bytes.data() + index * sizeof(T), sizeof(T));
  return result;
}

bool IsInt(uint32_t type) {
  return GgufScalarBytes(type) > 0 && type != kGgufFloat32 && type != kGgufFloat64 &&
         type != kGgufBool;
}

bool IsFloat(uint32_t type) { return type == kGgufFloat32 || type == kGgufFloat64; }

// uint64 above 2^63-1 wraps to a negative number, which every reader's bounds refuse.
int64_t IntAt(const GgufValue& value, uint64_t index) {
  switch (value.element_type) {
    case kGgufUint8:
      return Load<uint8_t>(value, index);
    case kGgufInt8:
      return Load<int8_t>(value, index);
    case kGgufUint16:
      return Load<uint16_t>(value, index);
    case kGgufInt16:
      return Load<int16_t>(value, index);
    case kGgufUint32:
      return Load<uint32_t>(value, index);
    case kGgufInt32:
      return Load<int32_t>(value, index);
    case kGgufUint64:
    case kGgufInt64:
      return Load<int64_t>(value, index);
  }
  LOG(FATAL) << "not an integer: " << GgufValueTypeName(value.element_type);
}

double ShortestDecimal(float value) {
  char text[32];
  const std::to_chars_result end = std::to_chars(text, text + sizeof(text), value);
  double result = value;  // Kept for infinity and NaN, whose text is no number.
  std::from_chars(text, end.ptr, result);
  return result;
}

double FloatAt(const GgufValue& value, uint64_t index) {
  if (value.element_type == kGgufFloat64) return Load<double>(value, index);
  return ShortestDecimal(Load<float>(value, index));
}

}  // namespace

std::string GgufValueTypeName(uint32_t type) {
  if (type < sizeof(kNames) / sizeof(kNames[0])) return std::string(kNames[type]);
  return absl::StrCat("type ", type);
}

absl::StatusOr<const GgufValue*> Gguf::Value(const std::string& key, absl::string_view want) const {
  const auto it = metadata_.find(key);
  if (it == metadata_.end()) {
    return absl::InvalidArgumentError(absl::StrCat(subject_, ": ", key, " is absent, want ", want));
  }
  return &it->second;
}

absl::Status Gguf::WrongType(const std::string& key, const GgufValue& value,
                             absl::string_view want) const {
  const std::string got = value.type == kGgufArray
                              ? absl::StrCat("an array of ", GgufValueTypeName(value.element_type))
                              : absl::StrCat("of type ", GgufValueTypeName(value.type));
  return absl::InvalidArgumentError(
      absl::StrCat(subject_, ": ", key, " is ", got, ", want ", want));
}

absl::StatusOr<int64_t> Gguf::Int(const std::string& key) const {
  constexpr absl::string_view kWant = "an integer";
  DW_ASSIGN_OR_RETURN(const GgufValue* value, Value(key, kWant));
  if (!IsInt(value->type)) return WrongType(key, *value, kWant);
  return IntAt(*value, 0);
}

absl::StatusOr<double> Gguf::Float(const std::string& key) const {
  constexpr absl::string_view kWant = "a float32 or float64";
  DW_ASSIGN_OR_RETURN(const GgufValue* value, Value(key, kWant));
  if (!IsFloat(value->type)) return WrongType(key, *value, kWant);
  return FloatAt(*value, 0);
}

absl::StatusOr<bool> Gguf::Bool(const std::string& key) const {
  constexpr absl::string_view kWant = "a bool";
  DW_ASSIGN_OR_RETURN(const GgufValue* value, Value(key, kWant));
  if (value->type != kGgufBool) return WrongType(key, *value, kWant);
  return Load<uint8_t>(*value, 0) != 0;
}

absl::StatusOr<absl::string_view> Gguf::String(const std::string& key) const {
  constexpr absl::string_view kWant = "a string";
  DW_ASSIGN_OR_RETURN(const GgufValue* value, Value(key, kWant));
  if (value->type != kGgufString) return WrongType(key, *value, kWant);
  return value->bytes.substr(sizeof(uint64_t));
}

absl::StatusOr<std::vector<int64_t>> Gguf::Ints(const std::string& key) const {
  constexpr absl::string_view kWant = "an array of integers";
  DW_ASSIGN_OR_RETURN(const GgufValue* value, Value(key, kWant));
  if (value->type != kGgufArray || !IsInt(value->element_type)) {
    return WrongType(key, *value, kWant);
  }
  std::vector<int64_t> result(value->count);
  for (uint64_t i = 0; i < value->count; ++i) result[i] = IntAt(*value, i);
  return result;
}

absl::StatusOr<std::vector<double>> Gguf::Floats(const std::string& key) const {
  constexpr absl::string_view kWant = "an array of float32 or float64";
  DW_ASSIGN_OR_RETURN(const GgufValue* value, Value(key, kWant));
  if (value->type != kGgufArray || !IsFloat(value->element_type)) {
    return WrongType(key, *value, kWant);
  }
  std::vector<double> result(value->count);
  for (uint64_t i = 0; i < value->count; ++i) result[i] = FloatAt(*value, i);
  return result;
}

absl::StatusOr<std::vector<absl::string_view>> Gguf::Strings(const std::string& key) const {
  constexpr absl::string_view kWant = "an array of strings";
  DW_ASSIGN_OR_RETURN(const GgufValue* value, Value(key, kWant));
  if (value->type != kGgufArray || value->element_type != kGgufString) {
    return WrongType(key, *value, kWant);
  }
  std::vector<absl::string_view> result(value->count);
  absl::string_view rest = value->bytes;
  for (absl::string_view& text : result) {
    uint64_t length;
    std::memcpy(&length, rest.data(), sizeof(length));
    text = rest.substr(sizeof(length), length);
    rest.remove_prefix(sizeof(length) + length);
  }
  return result;
}

}  // namespace deltaworks::trainer

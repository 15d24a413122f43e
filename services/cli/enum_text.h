// Enum values between people and protobuf: "cosine" and COSINE. Where protobuf wants the enum's own
// name before each value, people do without: "alone" is COHORT_ALONE. Pure functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_ENUM_TEXT_H_
#define DELTAWORKS_SERVICES_CLI_ENUM_TEXT_H_

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "google/protobuf/generated_enum_reflection.h"

namespace deltaworks::services {

// What may stand before the values of `type`: "COHORT_" where the zero is COHORT_UNSPECIFIED.
inline absl::string_view EnumPrefix(const google::protobuf::EnumDescriptor& type) {
  return absl::StripSuffix(type.FindValueByNumber(0)->name(), "UNSPECIFIED");
}

// "alone" and "COHORT_ALONE", in any case, are COHORT_ALONE; null if there is no such value.
inline const google::protobuf::EnumValueDescriptor* FindEnumValue(
    const google::protobuf::EnumDescriptor& type, absl::string_view text) {
  const std::string name = absl::AsciiStrToUpper(text);
  const auto* value = type.FindValueByName(name);
  return value != nullptr ? value : type.FindValueByName(absl::StrCat(EnumPrefix(type), name));
}

// Every value but the zero, in lower case; what a flag with choices takes.
inline std::vector<std::string> EnumChoices(const google::protobuf::EnumDescriptor& type) {
  std::vector<std::string> choices;
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() == 0) continue;
    choices.push_back(
        absl::AsciiStrToLower(absl::StripPrefix(type.value(i)->name(), EnumPrefix(type))));
  }
  return choices;
}
template <typename Enum>
std::vector<std::string> EnumChoices() {
  return EnumChoices(*google::protobuf::GetEnumDescriptor<Enum>());
}

// The value of a choice; the zero for anything else.
template <typename Enum>
Enum EnumOf(const std::string& choice) {
  const auto* value = FindEnumValue(*google::protobuf::GetEnumDescriptor<Enum>(), choice);
  return value == nullptr ? Enum{} : static_cast<Enum>(value->number());
}

// "RUNNING"; "17" for a value that this build does not know.
template <typename Enum>
std::string EnumText(Enum value) {
  const google::protobuf::EnumDescriptor* type = google::protobuf::GetEnumDescriptor<Enum>();
  const auto* known = type->FindValueByNumber(static_cast<int>(value));
  return known == nullptr ? std::to_string(static_cast<int>(value)) : known->name();
}

// In words: "waiting for turn".
template <typename Enum>
std::string EnumWords(Enum value) {
  std::string text = absl::AsciiStrToLower(EnumText(value));
  for (char& byte : text) {
    if (byte == '_') byte = ' ';
  }
  return text;
}

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_ENUM_TEXT_H_

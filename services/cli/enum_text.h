// Enum values between people and protobuf: "cosine" and COSINE. Pure functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_ENUM_TEXT_H_
#define DELTAWORKS_SERVICES_CLI_ENUM_TEXT_H_

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "google/protobuf/generated_enum_reflection.h"

namespace deltaworks::services {

// Every value but the zero, in lower case; what a flag with choices takes.
template <typename Enum>
std::vector<std::string> EnumChoices() {
  const google::protobuf::EnumDescriptor* type = google::protobuf::GetEnumDescriptor<Enum>();
  std::vector<std::string> choices;
  for (int i = 0; i < type->value_count(); ++i) {
    if (type->value(i)->number() == 0) continue;
    choices.push_back(absl::AsciiStrToLower(type->value(i)->name()));
  }
  return choices;
}

// The value of a choice; the zero for anything else.
template <typename Enum>
Enum EnumOf(const std::string& choice) {
  const google::protobuf::EnumDescriptor* type = google::protobuf::GetEnumDescriptor<Enum>();
  const auto* value = type->FindValueByName(absl::AsciiStrToUpper(choice));
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

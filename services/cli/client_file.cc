#include "services/cli/client_file.h"

#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/base/address.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kFileBytesMax = 1 << 20;

struct Field {
  const char* name;
  std::string PlatformSettings::*value;
  bool is_address;
  const char* environment;
};

constexpr std::array<Field, 7> kFields = {{
    {"scheduler", &PlatformSettings::scheduler, true, "DELTAWORKS_SCHEDULER"},
    {"store", &PlatformSettings::store, true, "DELTAWORKS_STORE"},
    {"registry", &PlatformSettings::registry, true, "DELTAWORKS_REGISTRY"},
    {"inference", &PlatformSettings::inference, true, "DELTAWORKS_INFERENCE"},
    {"token_file", &PlatformSettings::token_file, false, "DELTAWORKS_TOKEN_FILE"},
    {"operator_token_file", &PlatformSettings::operator_token_file, false,
     "DELTAWORKS_OPERATOR_TOKEN_FILE"},
    {"tokens_file", &PlatformSettings::tokens_file, false, "DELTAWORKS_TOKENS_FILE"},
}};

absl::Status FillFromFile(const std::string& path, bool required, PlatformSettings& settings) {
  absl::StatusOr<std::string> text = ReadFile(path, kFileBytesMax);
  if (absl::IsNotFound(text.status()) && !required) return absl::OkStatus();
  DW_RETURN_IF_ERROR(text.status());
  DW_ASSIGN_OR_RETURN(const Json json, ParseJson(*text, path));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is ", JsonText(json).substr(0, 60),
                                                   ", want an object with addresses"));
  }
  for (const Field& field : kFields) {
    std::string& value = settings.*field.value;
    if (!value.empty() || !JsonHas(json, field.name)) continue;
    DW_ASSIGN_OR_RETURN(value, JsonString(json, field.name, path));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PlatformSettings> ResolveSettings(PlatformSettings given, const std::string& config,
                                                 const Environment& environment) {
  PlatformSettings settings = std::move(given);
  if (settings.home.empty()) settings.home = environment("DELTAWORKS_HOME");
  if (const std::string user = environment("HOME"); settings.home.empty() && !user.empty()) {
    settings.home = absl::StrCat(user, "/.deltaworks");
  }
  for (const Field& field : kFields) {
    std::string& value = settings.*field.value;
    if (value.empty()) value = environment(field.environment);
  }
  if (!config.empty()) {
    DW_RETURN_IF_ERROR(FillFromFile(config, /*required=*/true, settings));
  } else if (!settings.home.empty()) {
    DW_RETURN_IF_ERROR(FillFromFile(settings.home + "/dw.json", /*required=*/false, settings));
  }
  for (const Field& field : kFields) {
    const std::string& value = settings.*field.value;
    if (!field.is_address || value.empty()) continue;
    DW_RETURN_IF_ERROR(
        ParseHostPort(absl::StrCat("the address of the ", field.name), value).status());
  }
  return settings;
}

absl::Status CheckHome(const std::string& home) {
  if (!home.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "no home folder: HOME and DELTAWORKS_HOME are not set, want one of them or --home");
}

}  // namespace deltaworks::services

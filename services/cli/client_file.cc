#include "services/cli/client_file.h"

#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/base/address.h"
#include "services/base/json_escape.h"
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

constexpr std::array<Field, 6> kFields = {{
    {"scheduler", &PlatformSettings::scheduler, true, "DELTAWORKS_SCHEDULER"},
    {"store", &PlatformSettings::store, true, "DELTAWORKS_STORE"},
    {"registry", &PlatformSettings::registry, true, "DELTAWORKS_REGISTRY"},
    {"inference", &PlatformSettings::inference, true, "DELTAWORKS_INFERENCE"},
    {"token_file", &PlatformSettings::token_file, false, "DELTAWORKS_TOKEN_FILE"},
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
  if (settings.home.empty()) settings.home = absl::StrCat(environment("HOME"), "/.deltaworks");
  for (const Field& field : kFields) {
    std::string& value = settings.*field.value;
    if (value.empty()) value = environment(field.environment);
  }
  const std::string path = config.empty() ? absl::StrCat(settings.home, "/dw.json") : config;
  DW_RETURN_IF_ERROR(FillFromFile(path, !config.empty(), settings));
  for (const Field& field : kFields) {
    const std::string& value = settings.*field.value;
    if (!field.is_address || value.empty()) continue;
    DW_RETURN_IF_ERROR(
        ParseHostPort(absl::StrCat("the address of the ", field.name), value).status());
  }
  return settings;
}

}  // namespace deltaworks::services

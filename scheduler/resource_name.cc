#include "scheduler/resource_name.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace deltaworks::scheduler {
namespace {

constexpr absl::string_view kTenants = "tenants";
constexpr size_t kIdBytesMax = 63;

bool IsIdCharacter(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-'; }

absl::Status Malformed(absl::string_view field, absl::string_view name, absl::string_view want) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is \"",
                                                 absl::CHexEscape(name.substr(0, 200)), "\", want ",
                                                 want, ", each id 1..63 of a-z, 0-9 and \"-\""));
}

}  // namespace

bool IsResourceId(absl::string_view id) {
  return !id.empty() && id.size() <= kIdBytesMax && id.front() != '-' && id.back() != '-' &&
         std::all_of(id.begin(), id.end(), IsIdCharacter);
}

absl::StatusOr<ResourceName> ParseResourceName(absl::string_view field, absl::string_view name,
                                               absl::string_view collection) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  if (parts.size() != 4 || parts[0] != kTenants || parts[2] != collection ||
      !IsResourceId(parts[1]) || !IsResourceId(parts[3])) {
    return Malformed(field, name, absl::StrCat("tenants/{tenant}/", collection, "/{id}"));
  }
  return ResourceName{.tenant = std::string(parts[1]), .id = std::string(parts[3])};
}

absl::StatusOr<std::string> ParseTenant(absl::string_view field, absl::string_view name) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  if (parts.size() != 2 || parts[0] != kTenants || !IsResourceId(parts[1])) {
    return Malformed(field, name, "tenants/{tenant}");
  }
  return std::string(parts[1]);
}

absl::StatusOr<std::string> ParseQuotaName(absl::string_view field, absl::string_view name) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  if (parts.size() != 3 || parts[0] != kTenants || !IsResourceId(parts[1]) || parts[2] != "quota") {
    return Malformed(field, name, "tenants/{tenant}/quota");
  }
  return std::string(parts[1]);
}

absl::string_view TenantOf(absl::string_view name) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, absl::MaxSplits('/', 2));
  return parts.size() == 3 && parts[0] == kTenants ? parts[1] : absl::string_view();
}

}  // namespace deltaworks::scheduler

#include "services/base/caller.h"

#include "absl/strings/str_cat.h"
#include "services/base/resource_names.h"

namespace deltaworks::services {

absl::Status NoSuchResource(absl::string_view name) {
  return absl::NotFoundError(absl::StrCat(name, " does not exist"));
}

absl::Status CheckTenantOfName(const Caller& caller, absl::string_view name) {
  const absl::string_view tenant = TenantOf(name);
  return !tenant.empty() && caller.MayUse(tenant) ? absl::OkStatus() : NoSuchResource(name);
}

absl::Status CheckTenantOfParent(const Caller& caller, absl::string_view parent,
                                 absl::string_view field) {
  const absl::string_view tenant = TenantOf(parent);
  if (!tenant.empty() && caller.MayUse(tenant)) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat(field, " is ", parent, ", the token given is not one of this tenant"));
}

}  // namespace deltaworks::services

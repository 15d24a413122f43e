// Resource names: tenants/{tenant}/{collection}/{id}. Pure functions.

#ifndef DELTAWORKS_SCHEDULER_RESOURCE_NAME_H_
#define DELTAWORKS_SCHEDULER_RESOURCE_NAME_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace deltaworks::scheduler {

// True for 1-63 characters of a-z, 0-9 and "-" that begin with a letter or digit and do not end
// with "-".
bool IsResourceId(absl::string_view id);

struct ResourceName {
  std::string tenant;
  std::string id;
};

// Takes "tenants/T/COLLECTION/ID" apart. InvalidArgument, beginning with `field`, if it has another
// form: `train.dataset is "x", want tenants/{tenant}/datasets/{id}`.
absl::StatusOr<ResourceName> ParseResourceName(absl::string_view field, absl::string_view name,
                                               absl::string_view collection);

// Takes "tenants/T" apart and returns T.
absl::StatusOr<std::string> ParseTenant(absl::string_view field, absl::string_view name);

// Takes "tenants/T/quota" apart and returns T.
absl::StatusOr<std::string> ParseQuotaName(absl::string_view field, absl::string_view name);

// The T of any "tenants/T/..."; empty if `name` has another form.
absl::string_view TenantOf(absl::string_view name);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_RESOURCE_NAME_H_

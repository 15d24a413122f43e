// Caller: on whose behalf an rpc was made, and what it may name.
//
// What another tenant has does not exist for a caller: a `name` of another tenant is NOT_FOUND in
// the words of a resource that is really absent; a `parent` of another tenant is PERMISSION_DENIED,
// which tells nothing about what is in it. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_CALLER_H_
#define DELTAWORKS_SERVICES_BASE_CALLER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace deltaworks::services {

// The tenant of services among themselves: they act for every tenant.
inline constexpr char kAllTenants[] = "-";

struct Caller {
  std::string tenant;

  bool all_tenants() const { return tenant == kAllTenants; }
  bool MayUse(absl::string_view other) const { return all_tenants() || other == tenant; }
};

// "tenants/t/datasets/d does not exist": every NOT_FOUND of a resource is made here, so that those
// of absent and of foreign resources cannot be told apart.
absl::Status NoSuchResource(absl::string_view name);

// For a well-formed `name`: OK if it begins with a tenant of the caller's, else NoSuchResource.
absl::Status CheckTenantOfName(const Caller& caller, absl::string_view name);

// For a well-formed `parent` ("tenants/t", or a resource of which things are listed or made).
// `field` is its name in the request.
absl::Status CheckTenantOfParent(const Caller& caller, absl::string_view parent,
                                 absl::string_view field = "parent");

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_CALLER_H_

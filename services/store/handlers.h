// What the handlers of StoreService share: who calls, which tenant, how errors leave. For the
// sources of store_service.h only.

#ifndef DELTAWORKS_SERVICES_STORE_HANDLERS_H_
#define DELTAWORKS_SERVICES_STORE_HANDLERS_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "services/base/authenticator.h"
#include "services/base/caller.h"
#include "services/base/resource_names.h"
#include "services/base/status_conversion.h"
#include "services/store/store_service.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {

// The tenant of a request's parent, if the caller may use it.
inline absl::StatusOr<std::string> TenantOfParent(const StoreParts& parts,
                                                  const grpc::ServerContext& context,
                                                  const std::string& parent) {
  DW_ASSIGN_OR_RETURN(const Caller caller, parts.authenticator.CallerOf(context));
  DW_ASSIGN_OR_RETURN(const auto ids, ParseName("parent", parent, kTenantPattern));
  DW_RETURN_IF_ERROR(CheckTenantOfParent(caller, parent));
  return ids[0];
}

// OK if `name` is of the form `pattern` and the caller may see its tenant.
inline absl::Status CheckName(const StoreParts& parts, const grpc::ServerContext& context,
                              absl::string_view name, absl::string_view pattern) {
  DW_ASSIGN_OR_RETURN(const Caller caller, parts.authenticator.CallerOf(context));
  DW_RETURN_IF_ERROR(ParseName("name", name, pattern).status());
  return CheckTenantOfName(caller, name);
}

// A name inside a request whose parent is of `tenant`.
inline absl::Status CheckNameOfTenant(absl::string_view field, absl::string_view name,
                                      absl::string_view pattern, absl::string_view tenant) {
  DW_RETURN_IF_ERROR(ParseName(field, name, pattern).status());
  return TenantOf(name) == tenant ? absl::OkStatus() : NoSuchResource(name);
}

// Counts refusals by limits; every status of a handler leaves through here.
grpc::Status Answer(const StoreParts& parts, const absl::Status& status);

// Puts the value in `response`.
template <typename Response>
grpc::Status Answer(const StoreParts& parts, absl::StatusOr<Response> result, Response* response) {
  if (result.ok()) *response = *std::move(result);
  return Answer(parts, result.status());
}

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_HANDLERS_H_

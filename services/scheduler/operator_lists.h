// What operators read: quotas, usage by day, a worker's mode; from a committed view.
//
// Names of the changes were checked (operator_service.cc); the rest of a request is checked here.
// Another caller than an operator is shown its own tenant alone. Pure functions of what they are
// given.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_OPERATOR_LISTS_H_
#define DELTAWORKS_SERVICES_SCHEDULER_OPERATOR_LISTS_H_

#include <string>

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/operator_service.pb.h"
#include "services/base/caller.h"
#include "services/scheduler/committed_view.h"

namespace deltaworks::services {

// The quota of that (well-formed) name, after it was set.
absl::StatusOr<v1::Quota> ShowQuota(const CommittedView& view, const std::string& name);

// By tenant.
absl::StatusOr<v1::ListQuotasResponse> ListQuotas(const CommittedView& view, const Caller& caller,
                                                  const v1::ListQuotasRequest& request);

// Newest day first, then by tenant. PermissionDenied for another tenant's parent.
absl::StatusOr<v1::ListUsageResponse> ListUsage(const CommittedView& view, const Caller& caller,
                                                const v1::ListUsageRequest& request);

// `leaving` counts the attempts there that are told to yield or stop, whoever said so: a repeated
// request is answered as the first.
absl::StatusOr<v1::SetWorkerModeResponse> ShowWorkerMode(const CommittedView& view,
                                                         const std::string& worker);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_OPERATOR_LISTS_H_

// Decide, for what operators ask: see OperatorService. Pure.

#ifndef DELTAWORKS_SCHEDULER_DECIDE_OPERATOR_H_
#define DELTAWORKS_SCHEDULER_DECIDE_OPERATOR_H_

#include "absl/status/statusor.h"
#include "scheduler/decide.h"

namespace deltaworks::scheduler {

// The quota of an event of it: with a new etag. Errors as the rpc's.
absl::StatusOr<Decision> DecideSetQuota(const v1::SetQuotaRequest& request,
                                        const DecisionContext& context);

// With WORKER_DRAINED every attempt there is told to leave, at no cost to its job.
absl::StatusOr<Decision> DecideSetWorkerMode(const v1::SetWorkerModeRequest& request,
                                             const DecisionContext& context);

// From a plan.
Decision DecideQuarantine(const QuarantineWorker& command, const DecisionContext& context);
Decision DecideReleaseWorker(const ReleaseWorker& command, const DecisionContext& context);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_DECIDE_OPERATOR_H_

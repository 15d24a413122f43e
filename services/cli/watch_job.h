// One job followed until it is final, through restarts of the scheduler.

#ifndef DELTAWORKS_SERVICES_CLI_WATCH_JOB_H_
#define DELTAWORKS_SERVICES_CLI_WATCH_JOB_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/cli/command.h"
#include "services/clients/retry.h"
#include "services/clients/training_client.h"

namespace deltaworks::services {

// Says on `err`, before the first of several waits, that the scheduler is away, and gives it ten
// minutes. `said` is set then, and cleared by the caller once something came. `away`, if any, is
// called before each remark. All of it must outlive the policy.
RetryPolicy PatientPolicy(CommandContext& context, bool& said,
                          std::function<void()> away = nullptr);

// FollowJob (services/clients/follow_job.h) for a person: with PatientPolicy, and on Ctrl-C it says
// that the job goes on and what to type (`come_back`).
absl::Status FollowPatiently(CommandContext& context, TrainingClient& client,
                             const v1::WatchJobRequest& request, const std::string& come_back,
                             const TrainingClient::JobSink& sink,
                             const std::function<void()>& away = nullptr);

// One redrawn block on a terminal, plain lines elsewhere, one WatchJobResponse a line as JSON.
// Returns kExitOk if the job SUCCEEDED, kExitBadOutcome if it FAILED or was CANCELLED. Ctrl-C
// leaves the job running and says how to come back.
absl::StatusOr<int> WatchJobToEnd(CommandContext& context, TrainingClient& client,
                                  const std::string& name);

// Waits for the same end without showing anything on the way.
absl::StatusOr<int> WaitForJob(CommandContext& context, TrainingClient& client,
                               const std::string& name);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_WATCH_JOB_H_

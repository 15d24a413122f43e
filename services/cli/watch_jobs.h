// Many jobs of one tenant followed until each is final, through restarts of the scheduler.

#ifndef DELTAWORKS_SERVICES_CLI_WATCH_JOBS_H_
#define DELTAWORKS_SERVICES_CLI_WATCH_JOBS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "services/cli/command.h"
#include "services/clients/training_client.h"

namespace deltaworks::services {

// `jobs` as they were last seen, of the context's tenant. A line for each change of state, the job
// itself as JSON. Returns kExitOk if all SUCCEEDED, kExitBadOutcome if one FAILED or was CANCELLED;
// Unavailable if nobody answers for ten minutes. Ctrl-C leaves the jobs running and says how to
// come back (`come_back`).
absl::StatusOr<int> WatchJobsToEnd(CommandContext& context, TrainingClient& client,
                                   const std::vector<v1::Job>& jobs, const std::string& come_back);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_WATCH_JOBS_H_

// How `dw` shows what is estimated of a job: what it takes, where it fits, when it starts.

#ifndef DELTAWORKS_SERVICES_CLI_ESTIMATE_VIEW_H_
#define DELTAWORKS_SERVICES_CLI_ESTIMATE_VIEW_H_

#include "absl/time/time.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "services/cli/command.h"
#include "services/cli/table.h"

namespace deltaworks::services {

// Lines on what is known before the job runs.
void AddEstimates(const v1::JobStatus& status, absl::Time now, FactSheet& facts);

void PrintEstimate(CommandContext& context, const v1::EstimateJobResponse& estimate);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_ESTIMATE_VIEW_H_

// FollowJob: watches one job to its end, through every cut, without missing or repeating a number.

#ifndef DELTAWORKS_SERVICES_CLIENTS_FOLLOW_JOB_H_
#define DELTAWORKS_SERVICES_CLIENTS_FOLLOW_JOB_H_

#include "absl/status/status.h"
#include "services/clients/retry.h"
#include "services/clients/training_client.h"

namespace deltaworks::services {

// Hands each response to `sink`, in order; events are those after request.since_seq, points those
// after since_metric. Reconnects where it was after UNAVAILABLE (the scheduler restarted) and
// RESOURCE_EXHAUSTED (too slow), for `policy.total_max` without progress. OK once the job is final
// and everything of it was handed on. DataLoss if the numbers have a gap.
absl::Status FollowJob(TrainingClient& client, v1::WatchJobRequest request,
                       const RetryPolicy& policy, const TrainingClient::JobSink& sink);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_FOLLOW_JOB_H_

// Lists of jobs, their events and metrics, and of workers: one page each, from a committed view.
//
// Requests are well-formed and the caller's (training_service.cc); filter, order and page token are
// checked here. A page ends early when it is full in bytes, so that an answer fits a message. Pure
// functions of what they are given.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_JOB_LISTS_H_
#define DELTAWORKS_SERVICES_SCHEDULER_JOB_LISTS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "services/base/caller.h"
#include "services/scheduler/committed_view.h"

namespace deltaworks::services {

// Bytes of resources in one answer.
inline constexpr int64_t kPageBytesMax = 2 << 20;

// In the state or the archive; valid within the task of the loop that got `view`. NotFound if there
// is no such job.
absl::StatusOr<std::shared_ptr<const scheduler::JobRecord>> FindJob(const CommittedView& view,
                                                                    const std::string& name);

absl::StatusOr<v1::ListJobsResponse> ListJobs(const CommittedView& view,
                                              const v1::ListJobsRequest& request);
absl::StatusOr<v1::ListJobEventsResponse> ListJobEvents(const CommittedView& view,
                                                        const v1::ListJobEventsRequest& request);
absl::StatusOr<v1::ListJobMetricsResponse> ListJobMetrics(const CommittedView& view,
                                                          const v1::ListJobMetricsRequest& request);
absl::StatusOr<v1::ListWorkersResponse> ListWorkers(const CommittedView& view, const Caller& caller,
                                                    const v1::ListWorkersRequest& request);

// OutOfRange unless `since_seq` and `since_metric` are within what is kept of the job.
absl::Status CheckSince(const CommittedView& view, const scheduler::JobRecord& record,
                        int64_t since_seq, int64_t since_metric);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_JOB_LISTS_H_

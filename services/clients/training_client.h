// TrainingClient: the scheduler, as people's tools see it.
//
// Calls block, are retried while the scheduler is UNAVAILABLE (retry.h) and return the errors of
// proto/deltaworks/v1/training_service.proto. A mutating request without request_id gets one.
// FollowJob() (follow_job.h) watches a job through every reconnect.
//
//   GrpcTrainingClient   over a Channel                      grpc_training_client.h
//   FakeTrainingClient   answers as a test says              fake_training_client.h
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_CLIENTS_TRAINING_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_TRAINING_CLIENT_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/training_service.pb.h"

namespace deltaworks::services {

class TrainingClient {
 public:
  virtual ~TrainingClient() = default;

  virtual absl::StatusOr<v1::Job> CreateJob(const v1::CreateJobRequest& request) = 0;
  virtual absl::StatusOr<v1::Job> GetJob(const std::string& name) = 0;
  virtual absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request) = 0;
  virtual absl::StatusOr<v1::Job> CancelJob(const v1::CancelJobRequest& request) = 0;
  virtual absl::StatusOr<v1::Job> PauseJob(const v1::PauseJobRequest& request) = 0;
  virtual absl::StatusOr<v1::Job> ResumeJob(const v1::ResumeJobRequest& request) = 0;
  virtual absl::StatusOr<v1::Job> UpdateJob(const v1::UpdateJobRequest& request) = 0;
  virtual absl::StatusOr<v1::Job> RerunJob(const v1::RerunJobRequest& request) = 0;
  virtual absl::Status DeleteJob(const v1::DeleteJobRequest& request) = 0;
  virtual absl::StatusOr<v1::EstimateJobResponse> EstimateJob(
      const v1::EstimateJobRequest& request) = 0;
  virtual absl::StatusOr<v1::ListJobEventsResponse> ListJobEvents(
      const v1::ListJobEventsRequest& request) = 0;
  virtual absl::StatusOr<v1::ListJobMetricsResponse> ListJobMetrics(
      const v1::ListJobMetricsRequest& request) = 0;
  virtual absl::StatusOr<v1::ListWorkersResponse> ListWorkers(
      const v1::ListWorkersRequest& request) = 0;

  // One stream until it ends. Not retried. An error of the sink ends it, and is returned.
  using JobSink = std::function<absl::Status(const v1::WatchJobResponse& response)>;
  virtual absl::Status WatchJob(const v1::WatchJobRequest& request, const JobSink& sink) = 0;
  using JobsSink = std::function<absl::Status(const v1::WatchJobsResponse& response)>;
  virtual absl::Status WatchJobs(const v1::WatchJobsRequest& request, const JobsSink& sink) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_TRAINING_CLIENT_H_

// FakeTrainingClient: jobs in a map that a test fills and moves; watches play what it recorded.
// Thread-compatible.

#ifndef DELTAWORKS_SERVICES_CLIENTS_FAKE_TRAINING_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_FAKE_TRAINING_CLIENT_H_

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "services/clients/training_client.h"

namespace deltaworks::services {

class FakeTrainingClient final : public TrainingClient {
 public:
  // ---- For the test ----

  // By name. CreateJob adds one in state VALIDATING, once for each request_id; cancel, pause and
  // resume set the state that is reached at once.
  std::map<std::string, v1::Job> jobs;
  std::vector<v1::Worker> workers;
  // What EstimateJob answers, but for the job, which is the one that was asked about with the
  // status that is here.
  v1::EstimateJobResponse estimate;
  // What each WatchJob in turn plays, and how it ends.
  struct Watch {
    std::vector<v1::WatchJobResponse> responses;
    absl::Status end;
    std::function<void()> before_end = nullptr;
  };
  std::deque<Watch> watches;
  // The requests that WatchJob saw.
  std::vector<v1::WatchJobRequest> watch_requests;

  // ---- TrainingClient ----

  absl::StatusOr<v1::Job> CreateJob(const v1::CreateJobRequest& request) override;
  absl::StatusOr<v1::Job> GetJob(const std::string& name) override;
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request) override;
  absl::StatusOr<v1::Job> UpdateJob(const v1::UpdateJobRequest& request) override;
  absl::StatusOr<v1::Job> RerunJob(const v1::RerunJobRequest& request) override;
  absl::Status DeleteJob(const v1::DeleteJobRequest& request) override;
  absl::StatusOr<v1::EstimateJobResponse> EstimateJob(
      const v1::EstimateJobRequest& request) override;
  absl::StatusOr<v1::Job> CancelJob(const v1::CancelJobRequest& request) override;
  absl::StatusOr<v1::Job> PauseJob(const v1::PauseJobRequest& request) override;
  absl::StatusOr<v1::Job> ResumeJob(const v1::ResumeJobRequest& request) override;
  absl::StatusOr<v1::ListJobEventsResponse> ListJobEvents(
      const v1::ListJobEventsRequest& request) override;
  absl::StatusOr<v1::ListJobMetricsResponse> ListJobMetrics(
      const v1::ListJobMetricsRequest& request) override;
  absl::StatusOr<v1::ListWorkersResponse> ListWorkers(
      const v1::ListWorkersRequest& request) override;
  absl::Status WatchJob(const v1::WatchJobRequest& request, const JobSink& sink) override;
  absl::Status WatchJobs(const v1::WatchJobsRequest& request, const JobsSink& sink) override;

 private:
  absl::StatusOr<v1::Job> Move(const std::string& name, v1::JobState state);

  std::map<std::string, std::string> created_;  // Names, by request_id.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_FAKE_TRAINING_CLIENT_H_

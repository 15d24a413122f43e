#include "services/clients/fake_training_client.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/base/caller.h"
#include "services/base/resource_names.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {

absl::StatusOr<v1::Job> FakeTrainingClient::CreateJob(const v1::CreateJobRequest& request) {
  const auto repeated = created_.find(request.request_id());
  if (repeated != created_.end()) return GetJob(repeated->second);
  v1::Job job = request.job();
  const std::string id =
      request.job_id().empty() ? absl::StrCat("job-", jobs.size() + 1) : request.job_id();
  job.set_name(absl::StrCat(request.parent(), "/jobs/", id));
  job.mutable_status()->set_state(v1::VALIDATING);
  if (!jobs.emplace(job.name(), job).second) {
    return absl::AlreadyExistsError(absl::StrCat(job.name(), " exists"));
  }
  if (!request.request_id().empty()) created_[request.request_id()] = job.name();
  return job;
}

absl::StatusOr<v1::Job> FakeTrainingClient::GetJob(const std::string& name) {
  const auto found = jobs.find(name);
  if (found == jobs.end()) return NoSuchResource(name);
  return found->second;
}

absl::StatusOr<v1::ListJobsResponse> FakeTrainingClient::ListJobs(
    const v1::ListJobsRequest& request) {
  v1::ListJobsResponse response;
  for (const auto& [name, job] : jobs) {
    if (absl::StartsWith(name, absl::StrCat(request.parent(), "/"))) *response.add_jobs() = job;
  }
  return response;
}

absl::StatusOr<v1::Job> FakeTrainingClient::Move(const std::string& name, v1::JobState state) {
  const auto found = jobs.find(name);
  if (found == jobs.end()) return NoSuchResource(name);
  found->second.mutable_status()->set_state(state);
  return found->second;
}

absl::StatusOr<v1::Job> FakeTrainingClient::UpdateJob(const v1::UpdateJobRequest& request) {
  const auto found = jobs.find(request.name());
  if (found == jobs.end()) return NoSuchResource(request.name());
  v1::Job& job = found->second;
  if (request.priority_class() != v1::PRIORITY_CLASS_UNSPECIFIED) {
    job.set_priority_class(request.priority_class());
  }
  if (request.has_timing()) *job.mutable_timing() = request.timing();
  return job;
}

absl::StatusOr<v1::Job> FakeTrainingClient::RerunJob(const v1::RerunJobRequest& request) {
  DW_ASSIGN_OR_RETURN(const v1::Job job, GetJob(request.name()));
  v1::CreateJobRequest create;
  create.set_parent(absl::StrCat("tenants/", TenantOf(request.name())));
  create.set_job_id(request.job_id());
  create.set_request_id(request.request_id());
  *create.mutable_job() = job;
  create.mutable_job()->set_parent_job(request.name());
  return CreateJob(create);
}

absl::Status FakeTrainingClient::DeleteJob(const v1::DeleteJobRequest& request) {
  return jobs.erase(request.name()) > 0 ? absl::OkStatus() : NoSuchResource(request.name());
}

absl::StatusOr<v1::EstimateJobResponse> FakeTrainingClient::EstimateJob(
    const v1::EstimateJobRequest& request) {
  v1::EstimateJobResponse response = estimate;
  *response.mutable_job() = request.job();
  *response.mutable_job()->mutable_status() = estimate.job().status();
  return response;
}

absl::StatusOr<v1::Job> FakeTrainingClient::CancelJob(const v1::CancelJobRequest& request) {
  return Move(request.name(), v1::CANCELLED);
}
absl::StatusOr<v1::Job> FakeTrainingClient::PauseJob(const v1::PauseJobRequest& request) {
  return Move(request.name(), v1::PAUSED);
}
absl::StatusOr<v1::Job> FakeTrainingClient::ResumeJob(const v1::ResumeJobRequest& request) {
  return Move(request.name(), v1::QUEUED);
}

absl::StatusOr<v1::ListJobEventsResponse> FakeTrainingClient::ListJobEvents(
    const v1::ListJobEventsRequest& request) {
  DW_RETURN_IF_ERROR(GetJob(request.parent()).status());
  v1::ListJobEventsResponse response;
  for (const Watch& watch : watches) {
    for (const v1::WatchJobResponse& recorded : watch.responses) {
      response.mutable_job_events()->MergeFrom(recorded.events());
    }
  }
  return response;
}

absl::StatusOr<v1::ListJobMetricsResponse> FakeTrainingClient::ListJobMetrics(
    const v1::ListJobMetricsRequest& request) {
  DW_RETURN_IF_ERROR(GetJob(request.parent()).status());
  v1::ListJobMetricsResponse response;
  for (const Watch& watch : watches) {
    for (const v1::WatchJobResponse& recorded : watch.responses) {
      response.mutable_metric_points()->MergeFrom(recorded.metrics());
    }
  }
  return response;
}

absl::StatusOr<v1::ListWorkersResponse> FakeTrainingClient::ListWorkers(
    const v1::ListWorkersRequest&) {
  v1::ListWorkersResponse response;
  for (const v1::Worker& worker : workers) *response.add_workers() = worker;
  return response;
}

absl::Status FakeTrainingClient::WatchJob(const v1::WatchJobRequest& request, const JobSink& sink) {
  watch_requests.push_back(request);
  if (watches.empty()) return absl::UnavailableError("nothing more was recorded");
  const Watch watch = std::move(watches.front());
  watches.pop_front();
  for (const v1::WatchJobResponse& response : watch.responses) {
    DW_RETURN_IF_ERROR(sink(response));
  }
  if (watch.before_end != nullptr) watch.before_end();
  return watch.end;
}

absl::Status FakeTrainingClient::WatchJobs(const v1::WatchJobsRequest& request,
                                           const JobsSink& sink) {
  v1::WatchJobsResponse response;
  response.set_synced(true);
  for (const auto& [name, job] : jobs) {
    if (absl::StartsWith(name, absl::StrCat(request.parent(), "/"))) *response.add_jobs() = job;
  }
  return sink(response);
}

}  // namespace deltaworks::services

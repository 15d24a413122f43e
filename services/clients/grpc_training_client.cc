#include "services/clients/grpc_training_client.h"

#include "proto/deltaworks/v1/training_service.grpc.pb.h"
#include "services/clients/grpc_calls.h"

namespace deltaworks::services {
namespace {

using Stub = v1::TrainingService::StubInterface;

constexpr char kService[] = "scheduler";

class GrpcTrainingClient final : public TrainingClient {
 public:
  explicit GrpcTrainingClient(const Channel& channel)
      : channel_(channel), stub_(v1::TrainingService::NewStub(channel.grpc)) {}

  absl::StatusOr<v1::Job> CreateJob(const v1::CreateJobRequest& request) override {
    return Call(&Stub::CreateJob, WithRequestId(request));
  }
  absl::StatusOr<v1::Job> GetJob(const std::string& name) override {
    v1::GetJobRequest request;
    request.set_name(name);
    return Call(&Stub::GetJob, request);
  }
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request) override {
    return Call(&Stub::ListJobs, request);
  }
  absl::StatusOr<v1::Job> UpdateJob(const v1::UpdateJobRequest& request) override {
    return Call(&Stub::UpdateJob, WithRequestId(request));
  }
  absl::StatusOr<v1::Job> RerunJob(const v1::RerunJobRequest& request) override {
    return Call(&Stub::RerunJob, WithRequestId(request));
  }
  absl::Status DeleteJob(const v1::DeleteJobRequest& request) override {
    return Call(&Stub::DeleteJob, WithRequestId(request)).status();
  }
  absl::StatusOr<v1::EstimateJobResponse> EstimateJob(
      const v1::EstimateJobRequest& request) override {
    return Call(&Stub::EstimateJob, request);
  }
  absl::StatusOr<v1::Job> CancelJob(const v1::CancelJobRequest& request) override {
    return Call(&Stub::CancelJob, WithRequestId(request));
  }
  absl::StatusOr<v1::Job> PauseJob(const v1::PauseJobRequest& request) override {
    return Call(&Stub::PauseJob, WithRequestId(request));
  }
  absl::StatusOr<v1::Job> ResumeJob(const v1::ResumeJobRequest& request) override {
    return Call(&Stub::ResumeJob, WithRequestId(request));
  }
  absl::StatusOr<v1::ListJobEventsResponse> ListJobEvents(
      const v1::ListJobEventsRequest& request) override {
    return Call(&Stub::ListJobEvents, request);
  }
  absl::StatusOr<v1::ListJobMetricsResponse> ListJobMetrics(
      const v1::ListJobMetricsRequest& request) override {
    return Call(&Stub::ListJobMetrics, request);
  }
  absl::StatusOr<v1::ListWorkersResponse> ListWorkers(
      const v1::ListWorkersRequest& request) override {
    return Call(&Stub::ListWorkers, request);
  }
  absl::Status WatchJob(const v1::WatchJobRequest& request, const JobSink& sink) override {
    return ReadStream<v1::WatchJobResponse>(
        channel_, absl::InfiniteDuration(),
        [&](grpc::ClientContext& context) { return stub_->WatchJob(&context, request); }, sink);
  }
  absl::Status WatchJobs(const v1::WatchJobsRequest& request, const JobsSink& sink) override {
    return ReadStream<v1::WatchJobsResponse>(
        channel_, absl::InfiniteDuration(),
        [&](grpc::ClientContext& context) { return stub_->WatchJobs(&context, request); }, sink);
  }

 private:
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request) {
    return CallUnary(channel_, kService, *stub_, method, request);
  }

  const Channel channel_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::unique_ptr<TrainingClient> MakeGrpcTrainingClient(const Channel& channel) {
  return std::make_unique<GrpcTrainingClient>(channel);
}

}  // namespace deltaworks::services

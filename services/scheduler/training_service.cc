#include "services/scheduler/training_service.h"

#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/training_service.grpc.pb.h"
#include "services/base/resource_names.h"
#include "services/base/status_conversion.h"
#include "services/scheduler/job_lists.h"
#include "services/scheduler/unary_service.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// One stream. The core's watch sends through Sink; what gRPC says goes to the loop by id, because
// the watch may be gone by then. Finish comes from the watch alone, and OnDone after it.
template <typename Response>
class WatchReactor final : public grpc::ServerWriteReactor<Response> {
 public:
  class Sink final : public WatchSink<Response> {
   public:
    explicit Sink(WatchReactor& reactor) : reactor_(reactor) {}
    void Send(Response response) override {
      reactor_.response_ = std::move(response);
      reactor_.StartWrite(&reactor_.response_);
    }
    void End(absl::Status status) override { reactor_.Finish(ToGrpcStatus(status)); }

   private:
    WatchReactor& reactor_;
  };

  WatchReactor(EventLoop& loop, SchedulerCore& core)
      : loop_(loop), core_(core), id_(core.NewId()) {}

  int64_t id() const { return id_; }

  void OnWriteDone(bool ok) override {
    loop_.Post([core = &core_, id = id_, ok] { ok ? core->WatchTaken(id) : core->DropWatch(id); });
  }
  void OnCancel() override {
    loop_.Post([core = &core_, id = id_] { core->DropWatch(id); });
  }
  void OnDone() override { delete this; }

 private:
  EventLoop& loop_;
  SchedulerCore& core_;
  const int64_t id_;
  Response response_;  // Being sent.
};

// A stream that only says why not.
template <typename Response>
class RefusedWatch final : public grpc::ServerWriteReactor<Response> {
 public:
  explicit RefusedWatch(const absl::Status& status) { this->Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

class TrainingService final : public v1::TrainingService::CallbackService {
 public:
  TrainingService(EventLoop& loop, SchedulerCore& core, const Authenticator& authenticator)
      : loop_(loop), core_(core), authenticator_(authenticator) {}

  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  Unary* CreateJob(Context* context, const v1::CreateJobRequest* request,
                   v1::Job* response) override;
  Unary* GetJob(Context* context, const v1::GetJobRequest* request, v1::Job* response) override;
  Unary* ListJobs(Context* context, const v1::ListJobsRequest* request,
                  v1::ListJobsResponse* response) override;
  Unary* CancelJob(Context* context, const v1::CancelJobRequest* request,
                   v1::Job* response) override;
  Unary* PauseJob(Context* context, const v1::PauseJobRequest* request, v1::Job* response) override;
  Unary* ResumeJob(Context* context, const v1::ResumeJobRequest* request,
                   v1::Job* response) override;
  Unary* UpdateJob(Context* context, const v1::UpdateJobRequest* request,
                   v1::Job* response) override;
  Unary* RerunJob(Context* context, const v1::RerunJobRequest* request, v1::Job* response) override;
  Unary* DeleteJob(Context* context, const v1::DeleteJobRequest* request,
                   google::protobuf::Empty* response) override;
  Unary* EstimateJob(Context* context, const v1::EstimateJobRequest* request,
                     v1::EstimateJobResponse* response) override;
  Unary* ListJobEvents(Context* context, const v1::ListJobEventsRequest* request,
                       v1::ListJobEventsResponse* response) override;
  Unary* ListJobMetrics(Context* context, const v1::ListJobMetricsRequest* request,
                        v1::ListJobMetricsResponse* response) override;
  Unary* ListWorkers(Context* context, const v1::ListWorkersRequest* request,
                     v1::ListWorkersResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(
      Context* context, const v1::WatchJobRequest* request) override;
  grpc::ServerWriteReactor<v1::WatchJobsResponse>* WatchJobs(
      Context* context, const v1::WatchJobsRequest* request) override;

 private:
  // Whether the caller may name `name` (a job) or `parent` (of `pattern`).
  absl::Status CheckName(const Context& context, const std::string& name) const;
  absl::Status CheckParent(const Context& context, const std::string& parent,
                           const char* pattern) const;

  // Has the core carry out `request`, if `checked` is OK.
  template <typename Request>
  Unary* Change(Context* context, const absl::Status& checked, const Request* request,
                v1::Job* response);
  // Answers with read(view), if `checked` is OK.
  template <typename Response, typename ReadFunction>
  Unary* Read(Context* context, const absl::Status& checked, Response* response, ReadFunction read);

  EventLoop& loop_;
  SchedulerCore& core_;
  const Authenticator& authenticator_;
};

absl::Status TrainingService::CheckName(const Context& context, const std::string& name) const {
  DW_ASSIGN_OR_RETURN(const Caller caller, authenticator_.CallerOf(context));
  DW_RETURN_IF_ERROR(ParseName("name", name, kJobPattern).status());
  return CheckTenantOfName(caller, name);
}

absl::Status TrainingService::CheckParent(const Context& context, const std::string& parent,
                                          const char* pattern) const {
  DW_ASSIGN_OR_RETURN(const Caller caller, authenticator_.CallerOf(context));
  DW_RETURN_IF_ERROR(ParseName("parent", parent, pattern).status());
  return CheckTenantOfParent(caller, parent);
}

template <typename Request>
grpc::ServerUnaryReactor* TrainingService::Change(Context* context, const absl::Status& checked,
                                                  const Request* request, v1::Job* response) {
  return PostCall(loop_, context, checked, [core = &core_, request, response](Unary* reactor) {
    core->Change(*request, [reactor, response](absl::StatusOr<v1::Job> job) {
      FinishWith(std::move(job), reactor, response);
    });
  });
}

template <typename Response, typename ReadFunction>
grpc::ServerUnaryReactor* TrainingService::Read(Context* context, const absl::Status& checked,
                                                Response* response, ReadFunction read) {
  return PostCall(loop_, context, checked,
                  [core = &core_, response, read = std::move(read)](Unary* reactor) {
                    core->Read(AnswerWith(reactor, response, read));
                  });
}

grpc::ServerUnaryReactor* TrainingService::CreateJob(Context* context,
                                                     const v1::CreateJobRequest* request,
                                                     v1::Job* response) {
  return Change(context, CheckParent(*context, request->parent(), kTenantPattern), request,
                response);
}

grpc::ServerUnaryReactor* TrainingService::CancelJob(Context* context,
                                                     const v1::CancelJobRequest* request,
                                                     v1::Job* response) {
  return Change(context, CheckName(*context, request->name()), request, response);
}

grpc::ServerUnaryReactor* TrainingService::PauseJob(Context* context,
                                                    const v1::PauseJobRequest* request,
                                                    v1::Job* response) {
  return Change(context, CheckName(*context, request->name()), request, response);
}

grpc::ServerUnaryReactor* TrainingService::ResumeJob(Context* context,
                                                     const v1::ResumeJobRequest* request,
                                                     v1::Job* response) {
  return Change(context, CheckName(*context, request->name()), request, response);
}

grpc::ServerUnaryReactor* TrainingService::UpdateJob(Context* context,
                                                     const v1::UpdateJobRequest* request,
                                                     v1::Job* response) {
  return Change(context, CheckName(*context, request->name()), request, response);
}

grpc::ServerUnaryReactor* TrainingService::RerunJob(Context* context,
                                                    const v1::RerunJobRequest* request,
                                                    v1::Job* response) {
  return Change(context, CheckName(*context, request->name()), request, response);
}

grpc::ServerUnaryReactor* TrainingService::DeleteJob(Context* context,
                                                     const v1::DeleteJobRequest* request,
                                                     google::protobuf::Empty* response) {
  return PostCall(loop_, context, CheckName(*context, request->name()),
                  [core = &core_, request, response](Unary* reactor) {
                    const auto nothing = [](const CommittedView&) {
                      return absl::StatusOr<google::protobuf::Empty>(google::protobuf::Empty());
                    };
                    core->ChangeThenRead(*request, AnswerWith(reactor, response, nothing));
                  });
}

grpc::ServerUnaryReactor* TrainingService::EstimateJob(Context* context,
                                                       const v1::EstimateJobRequest* request,
                                                       v1::EstimateJobResponse* response) {
  return PostCall(loop_, context, CheckParent(*context, request->parent(), kTenantPattern),
                  [core = &core_, request, response](Unary* reactor) {
                    core->EstimateJob(*request, [reactor, response](auto answer) {
                      FinishWith(std::move(answer), reactor, response);
                    });
                  });
}

grpc::ServerUnaryReactor* TrainingService::GetJob(Context* context,
                                                  const v1::GetJobRequest* request,
                                                  v1::Job* response) {
  return Read(context, CheckName(*context, request->name()), response,
              [request](const CommittedView& view) -> absl::StatusOr<v1::Job> {
                DW_ASSIGN_OR_RETURN(const auto record, FindJob(view, request->name()));
                return view.ShowWithEstimates(*record);
              });
}

grpc::ServerUnaryReactor* TrainingService::ListJobs(Context* context,
                                                    const v1::ListJobsRequest* request,
                                                    v1::ListJobsResponse* response) {
  return Read(context, CheckParent(*context, request->parent(), kTenantPattern), response,
              [request](const CommittedView& view) { return services::ListJobs(view, *request); });
}

grpc::ServerUnaryReactor* TrainingService::ListJobEvents(Context* context,
                                                         const v1::ListJobEventsRequest* request,
                                                         v1::ListJobEventsResponse* response) {
  return Read(
      context, CheckParent(*context, request->parent(), kJobPattern), response,
      [request](const CommittedView& view) { return services::ListJobEvents(view, *request); });
}

grpc::ServerUnaryReactor* TrainingService::ListJobMetrics(Context* context,
                                                          const v1::ListJobMetricsRequest* request,
                                                          v1::ListJobMetricsResponse* response) {
  return Read(
      context, CheckParent(*context, request->parent(), kJobPattern), response,
      [request](const CommittedView& view) { return services::ListJobMetrics(view, *request); });
}

grpc::ServerUnaryReactor* TrainingService::ListWorkers(Context* context,
                                                       const v1::ListWorkersRequest* request,
                                                       v1::ListWorkersResponse* response) {
  const absl::StatusOr<Caller> caller = authenticator_.CallerOf(*context);
  return Read(context, caller.status(), response,
              [request, caller = caller.value_or(Caller())](const CommittedView& view) {
                return services::ListWorkers(view, caller, *request);
              });
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* TrainingService::WatchJob(
    Context* context, const v1::WatchJobRequest* request) {
  using Reactor = WatchReactor<v1::WatchJobResponse>;
  if (const absl::Status status = CheckName(*context, request->name()); !status.ok()) {
    return new RefusedWatch<v1::WatchJobResponse>(status);
  }
  auto* reactor = new Reactor(loop_, core_);
  loop_.Post([core = &core_, reactor, request = *request] {
    core->WatchJob(reactor->id(), request, std::make_unique<Reactor::Sink>(*reactor));
  });
  return reactor;
}

grpc::ServerWriteReactor<v1::WatchJobsResponse>* TrainingService::WatchJobs(
    Context* context, const v1::WatchJobsRequest* request) {
  using Reactor = WatchReactor<v1::WatchJobsResponse>;
  const absl::Status status = CheckParent(*context, request->parent(), kTenantPattern);
  if (!status.ok()) return new RefusedWatch<v1::WatchJobsResponse>(status);
  auto* reactor = new Reactor(loop_, core_);
  loop_.Post([core = &core_, reactor, request = *request] {
    core->WatchJobs(reactor->id(), request, std::make_unique<Reactor::Sink>(*reactor));
  });
  return reactor;
}

}  // namespace

std::unique_ptr<grpc::Service> MakeTrainingService(EventLoop& loop, SchedulerCore& core,
                                                   const Authenticator& authenticator) {
  return std::make_unique<TrainingService>(loop, core, authenticator);
}

}  // namespace deltaworks::services

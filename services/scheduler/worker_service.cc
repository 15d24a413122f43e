#include "services/scheduler/worker_service.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/status/status.h"
#include "proto/deltaworks/v1/worker_service.grpc.pb.h"
#include "services/base/status_conversion.h"
#include "services/scheduler/sync_check.h"

namespace deltaworks::services {
namespace {

// One call. Ends with Finish, which the core's reply is; a caller that leaves makes it reply.
class SyncReactor final : public grpc::ServerUnaryReactor {
 public:
  SyncReactor(EventLoop& loop, SchedulerCore& core) : loop_(loop), core_(core), id_(core.NewId()) {}

  void Start(const v1::SyncRequest& request, v1::SyncResponse* response) {
    loop_.Post([this, report = request, response]() mutable {
      core_.ReceiveSync(id_, std::move(report),
                        [this, response](absl::StatusOr<v1::SyncResponse> answer) {
                          if (answer.ok()) response->Swap(&*answer);
                          Finish(ToGrpcStatus(answer.status()));
                        });
    });
  }

  void OnCancel() override {
    loop_.Post([core = &core_, id = id_] { core->DropSync(id); });
  }
  void OnDone() override { delete this; }

 private:
  EventLoop& loop_;
  SchedulerCore& core_;
  const int64_t id_;
};

absl::Status Check(const Authenticator& authenticator, const grpc::CallbackServerContext& context,
                   const v1::SyncRequest& request) {
  const absl::StatusOr<Caller> caller = authenticator.CallerOf(context);
  if (!caller.ok()) return caller.status();
  if (!caller->all_tenants()) {
    return absl::PermissionDeniedError("the token given is a tenant's, want one of the platform");
  }
  return CheckSync(request);
}

class WorkerService final : public v1::WorkerService::CallbackService {
 public:
  WorkerService(EventLoop& loop, SchedulerCore& core, const Authenticator& authenticator)
      : loop_(loop), core_(core), authenticator_(authenticator) {}

  // Answers when the worker's desired state changes, or after a quarter of the lease.
  grpc::ServerUnaryReactor* Sync(grpc::CallbackServerContext* context,
                                 const v1::SyncRequest* request,
                                 v1::SyncResponse* response) override;

 private:
  EventLoop& loop_;
  SchedulerCore& core_;
  const Authenticator& authenticator_;
};

grpc::ServerUnaryReactor* WorkerService::Sync(grpc::CallbackServerContext* context,
                                              const v1::SyncRequest* request,
                                              v1::SyncResponse* response) {
  if (absl::Status status = Check(authenticator_, *context, *request); !status.ok()) {
    grpc::ServerUnaryReactor* refused = context->DefaultReactor();
    refused->Finish(ToGrpcStatus(status));
    return refused;
  }
  auto* reactor = new SyncReactor(loop_, core_);
  reactor->Start(*request, response);
  return reactor;
}

}  // namespace

std::unique_ptr<grpc::Service> MakeWorkerService(EventLoop& loop, SchedulerCore& core,
                                                 const Authenticator& authenticator) {
  return std::make_unique<WorkerService>(loop, core, authenticator);
}

}  // namespace deltaworks::services

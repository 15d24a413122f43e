#include "services/clients/grpc_worker_sync_client.h"

#include <grpcpp/grpcpp.h>

#include "proto/deltaworks/v1/worker_service.grpc.pb.h"
#include "services/base/status_conversion.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {
namespace {

class GrpcWorkerSyncClient final : public WorkerSyncClient {
 public:
  explicit GrpcWorkerSyncClient(const Channel& channel)
      : channel_(channel), stub_(v1::WorkerService::NewStub(channel.grpc)) {}

  absl::StatusOr<v1::SyncResponse> Sync(const v1::SyncRequest& request,
                                        absl::Duration timeout) override {
    grpc::ClientContext context;
    channel_.Prepare(context, timeout);
    SetCurrent(&context);
    v1::SyncResponse response;
    const grpc::Status status = stub_->Sync(&context, request, &response);
    SetCurrent(nullptr);
    if (!status.ok()) return FromGrpcStatus(status);
    return response;
  }

  void CancelSync() override {
    MutexLock lock(&mutex_);
    if (current_ != nullptr) current_->TryCancel();
  }

 private:
  void SetCurrent(grpc::ClientContext* context) {
    MutexLock lock(&mutex_);
    current_ = context;
  }

  const Channel channel_;
  const std::unique_ptr<v1::WorkerService::StubInterface> stub_;
  Mutex mutex_;
  grpc::ClientContext* current_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace

std::unique_ptr<WorkerSyncClient> MakeGrpcWorkerSyncClient(const Channel& channel) {
  return std::make_unique<GrpcWorkerSyncClient>(channel);
}

}  // namespace deltaworks::services

#include "services/clients/grpc_worker_sync_client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>

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
    if (!Begin(request.report_number(), context)) {
      return absl::CancelledError("the report was given up before it was sent");
    }
    v1::SyncResponse response;
    const grpc::Status status = stub_->Sync(&context, request, &response);
    End();
    if (!status.ok()) return FromGrpcStatus(status);
    return response;
  }

  void CancelSync(int64_t report_number) override {
    MutexLock lock(&mutex_);
    cancelled_ = std::max(cancelled_, report_number);
    if (current_ != nullptr && current_report_ <= cancelled_) current_->TryCancel();
  }

 private:
  // False: cancelled already.
  bool Begin(int64_t report_number, grpc::ClientContext& context) {
    MutexLock lock(&mutex_);
    if (report_number <= cancelled_) return false;
    current_ = &context;
    current_report_ = report_number;
    return true;
  }
  void End() {
    MutexLock lock(&mutex_);
    current_ = nullptr;
  }

  const Channel channel_;
  const std::unique_ptr<v1::WorkerService::StubInterface> stub_;
  Mutex mutex_;
  grpc::ClientContext* current_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int64_t current_report_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t cancelled_ ABSL_GUARDED_BY(mutex_) = 0;  // Reports up to this one.
};

}  // namespace

std::unique_ptr<WorkerSyncClient> MakeGrpcWorkerSyncClient(const Channel& channel) {
  return std::make_unique<GrpcWorkerSyncClient>(channel);
}

}  // namespace deltaworks::services

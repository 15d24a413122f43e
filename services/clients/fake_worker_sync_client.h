// FakeWorkerSyncClient: a scheduler in a test, for a worker under test. Every Sync is handed to the
// handler, which answers at once. Thread-safe if the handler is.

#ifndef DELTAWORKS_SERVICES_CLIENTS_FAKE_WORKER_SYNC_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_FAKE_WORKER_SYNC_CLIENT_H_

#include <functional>
#include <utility>

#include "services/clients/worker_sync_client.h"

namespace deltaworks::services {

class FakeWorkerSyncClient final : public WorkerSyncClient {
 public:
  using Handler = std::function<absl::StatusOr<v1::SyncResponse>(const v1::SyncRequest&)>;
  explicit FakeWorkerSyncClient(Handler handler) : handler_(std::move(handler)) {}

  absl::StatusOr<v1::SyncResponse> Sync(const v1::SyncRequest& request, absl::Duration) override {
    return handler_(request);
  }
  void CancelSync() override {}

 private:
  const Handler handler_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_FAKE_WORKER_SYNC_CLIENT_H_

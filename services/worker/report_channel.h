// ReportChannel: how WorkerCore sends its Syncs: asynchronous, and to be given up. ReportThread
// does it over the blocking WorkerSyncClient, on a thread of its own, one call at a time.

#ifndef DELTAWORKS_SERVICES_WORKER_REPORT_CHANNEL_H_
#define DELTAWORKS_SERVICES_WORKER_REPORT_CHANNEL_H_

#include <cstdint>
#include <memory>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/clients/worker_sync_client.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class ReportChannel {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<v1::SyncResponse>)>;

  virtual ~ReportChannel() = default;

  // Sends `request`, whose report number is the highest so far, and gives up the one before it if
  // that has not ended. `done` is called once, from any thread: with the answer, the scheduler's
  // error, DeadlineExceeded after `timeout`, or Cancelled if it was given up.
  virtual void Send(const v1::SyncRequest& request, absl::Duration timeout, Done done) = 0;
  virtual void GiveUp() = 0;
};

// Thread-safe.
class ReportThread final : public ReportChannel {
 public:
  // `client` must outlive it.
  explicit ReportThread(WorkerSyncClient& client);
  // Gives up, ends the thread.
  ~ReportThread() override;

  void Send(const v1::SyncRequest& request, absl::Duration timeout, Done done) override;
  void GiveUp() override;

 private:
  struct Call {
    v1::SyncRequest request;
    absl::Duration timeout;
    Done done;
  };

  void Run();

  WorkerSyncClient& client_;
  Mutex mutex_;
  CondVar changed_;
  std::unique_ptr<Call> next_ ABSL_GUARDED_BY(mutex_);
  int64_t running_ ABSL_GUARDED_BY(mutex_) = 0;  // Report number of the call; 0: none.
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses what is above.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_REPORT_CHANNEL_H_

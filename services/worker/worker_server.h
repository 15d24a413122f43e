// WorkerServer: what the worker's process is made of, in the order in which it is made.
//
//   DeviceLock                                      one process by device
//   StoreClient --> BaseCache --> PreparerThread    fetches bases, datasets and checkpoints
//        |                             v
//        |                        TrainerThread     models, runs, passes
//        v                             ^
//   StorePublisher <------------- WorkerCore <----> ReportThread <--> WorkerSyncClient
//   uploads, reads back           on the loop       the Sync under way
//
// Each of preparer, trainer, publisher, loop, report and the listing of bases has a thread of its
// own; only the trainer's computes. Destroyed, it stops at once: a pass under way ends, nothing is
// handed back, leases end by themselves. Drain() first to hand them back.

#ifndef DELTAWORKS_SERVICES_WORKER_WORKER_SERVER_H_
#define DELTAWORKS_SERVICES_WORKER_WORKER_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/base/clock.h"
#include "services/base/event_loop.h"
#include "services/base/metrics.h"
#include "services/clients/base_cache.h"
#include "services/clients/store_client.h"
#include "services/clients/worker_sync_client.h"
#include "services/worker/device.h"
#include "services/worker/device_lock.h"
#include "services/worker/job_preparation.h"
#include "services/worker/metrics.h"
#include "services/worker/report_channel.h"
#include "services/worker/store_publisher.h"
#include "services/worker/trainer_thread.h"
#include "services/worker/worker_core.h"
#include "trainer/comm/tcp_socket.h"

namespace deltaworks::services {

class WorkerServer {
 public:
  struct Options {
    DeviceSettings device;
    // First part of the worker's name; empty: the machine's own id.
    std::string machine_id;
    // Locks and incarnations of devices; the same for all workers of a machine.
    std::string lock_folder;
    // Base models; shared by the workers of a node.
    std::string cache_folder;
    // "HOST" or "HOST:PORT" of this machine, where the others of a gang reach this worker. Empty:
    // it is part of no gang.
    std::string gang_address;
  };

  // The references must outlive the server. `on_fatal` is called once, from the loop, if this
  // process must end.
  //   InvalidArgument     a setting.
  //   FailedPrecondition  another process has the device.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(
      const Options& options, StoreClient& store, WorkerSyncClient& scheduler, const Clock& clock,
      Metrics& metrics, std::function<void(absl::Status)> on_fatal);
  ~WorkerServer();

  int64_t incarnation() const { return lock_.incarnation(); }

  // Begins the conversation with the scheduler. Once only.
  void Serve();
  // Every job checkpoints and is handed back. False if that was not so by `deadline`.
  bool Drain(absl::Duration deadline);

 private:
  WorkerServer(const Options& options, std::string name, Device device, DeviceLock lock,
               std::unique_ptr<trainer::TcpListener> gang_listener, StoreClient& store,
               WorkerSyncClient& scheduler, const Clock& clock, Metrics& metrics,
               std::function<void(absl::Status)> on_fatal);
  // On lister_: the cache may be on a disk that hangs, and leases must not wait for it.
  void ListBases();
  // The core's last word; nothing that the loop runs later sends or publishes.
  void StopCore();

  DeviceLock lock_;
  const std::unique_ptr<trainer::TcpListener> gang_listener_;  // Or nullptr.
  WorkerMetrics metrics_;
  BaseCache bases_;
  // Dropped by hand, who calls back before who is called.
  std::unique_ptr<RealEventLoop> loop_;
  std::unique_ptr<ReportThread> reports_;
  std::unique_ptr<StorePublisher> publisher_;
  std::unique_ptr<PreparerThread> preparer_;
  std::unique_ptr<TrainerThread> trainer_;
  std::unique_ptr<WorkerCore> core_;
  std::unique_ptr<RealEventLoop> lister_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_WORKER_SERVER_H_

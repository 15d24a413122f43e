// SchedulerServer: what the scheduler's process is made of, in the order in which it is made.
//
//   SqliteEventStore ------\                     /- TrainingService
//   StoreClient, registry --> SchedulerCore <---+-- WorkerService
//   RealEventLoop, pool ---/                     \- OperatorService
//
// Everything of the core runs on the loop's thread; gRPC's threads and the pool's post to it.
// Destroy it after the gRPC server.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_SCHEDULER_SERVER_H_
#define DELTAWORKS_SERVICES_SCHEDULER_SCHEDULER_SERVER_H_

#include <grpcpp/impl/service_type.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/base/authenticator.h"
#include "services/base/clock.h"
#include "services/base/event_loop.h"
#include "services/base/metrics.h"
#include "services/clients/registry_client.h"
#include "services/clients/store_client.h"
#include "services/scheduler/call_pool.h"
#include "services/scheduler/event_store.h"
#include "services/scheduler/metrics.h"
#include "services/scheduler/scheduler_core.h"
#include "services/scheduler/sqlite_event_store.h"

namespace deltaworks::services {

class SchedulerServer {
 public:
  struct Options {
    // Its folder is made if it is missing.
    SqliteEventStore::Options events;
    SchedulerCore::Options core;
  };

  // Loads, and commits the start: calls may be answered from then on. The other arguments must
  // outlive the server. Errors as SqliteEventStore::Open and SchedulerCore::Start.
  static absl::StatusOr<std::unique_ptr<SchedulerServer>> Start(
      const Options& options, std::unique_ptr<StoreClient> store,
      std::unique_ptr<RegistryClient> registry, const Clock& clock, Metrics& metrics,
      const Authenticator& authenticator);
  // The same over another event store, with clients that outlive the server: for tests that lie
  // about the disk.
  static absl::StatusOr<std::unique_ptr<SchedulerServer>> StartWith(
      const SchedulerCore::Options& options, std::unique_ptr<EventStore> events, StoreClient& store,
      RegistryClient& registry, const Clock& clock, Metrics& metrics,
      const Authenticator& authenticator);
  // Waits for the calls to store and registry that are under way, at most 5, side by side: each as
  // long as its client lets it (main.cc: a minute, and one more try). Starts none.
  ~SchedulerServer();

  // Commits, answers what is held, ends watches; everything is refused from then on.
  void Drain();

  std::vector<grpc::Service*> services() {
    return {training_.get(), worker_.get(), operator_.get()};
  }

 private:
  SchedulerServer(const SchedulerCore::Options& options, std::unique_ptr<EventStore> events,
                  StoreClient& store, RegistryClient& registry, const Clock& clock,
                  Metrics& metrics, const Authenticator& authenticator);

  SchedulerMetrics metrics_;
  const std::unique_ptr<EventStore> events_;
  // Null after StartWith.
  std::unique_ptr<StoreClient> store_;
  std::unique_ptr<RegistryClient> registry_;
  // Both end before the core, which their tasks use.
  std::unique_ptr<RealEventLoop> loop_;
  std::unique_ptr<ThreadCallPool> pool_;
  SchedulerCore core_;
  const std::unique_ptr<grpc::Service> training_;
  const std::unique_ptr<grpc::Service> worker_;
  const std::unique_ptr<grpc::Service> operator_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_SCHEDULER_SERVER_H_

#include "services/scheduler/scheduler_server.h"

#include <filesystem>
#include <utility>

#include "absl/synchronization/notification.h"
#include "services/scheduler/operator_service.h"
#include "services/scheduler/training_service.h"
#include "services/scheduler/worker_service.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// What Asks and Pins have under way at most.
int PoolThreads(const SchedulerCore::Options& options) {
  return static_cast<int>(options.asks.validations_max + options.asks.versions_max + 1);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SchedulerServer>> SchedulerServer::Start(
    const Options& options, std::unique_ptr<StoreClient> store,
    std::unique_ptr<RegistryClient> registry, const Clock& clock, Metrics& metrics,
    const Authenticator& authenticator) {
  const std::string folder = std::filesystem::path(options.events.path).parent_path().string();
  if (!folder.empty()) DW_RETURN_IF_ERROR(MakeDirectories(folder));
  DW_ASSIGN_OR_RETURN(std::unique_ptr<EventStore> events, SqliteEventStore::Open(options.events));
  DW_ASSIGN_OR_RETURN(
      std::unique_ptr<SchedulerServer> server,
      StartWith(options.core, std::move(events), *store, *registry, clock, metrics, authenticator));
  server->store_ = std::move(store);
  server->registry_ = std::move(registry);
  return server;
}

absl::StatusOr<std::unique_ptr<SchedulerServer>> SchedulerServer::StartWith(
    const SchedulerCore::Options& options, std::unique_ptr<EventStore> events, StoreClient& store,
    RegistryClient& registry, const Clock& clock, Metrics& metrics,
    const Authenticator& authenticator) {
  std::unique_ptr<SchedulerServer> server(new SchedulerServer(
      options, std::move(events), store, registry, clock, metrics, authenticator));
  // The loop has no task yet, so this thread may touch the core.
  DW_RETURN_IF_ERROR(server->core_.Start());
  return server;
}

SchedulerServer::SchedulerServer(const SchedulerCore::Options& options,
                                 std::unique_ptr<EventStore> events, StoreClient& store,
                                 RegistryClient& registry, const Clock& clock, Metrics& metrics,
                                 const Authenticator& authenticator)
    : metrics_(metrics),
      events_(std::move(events)),
      loop_(std::make_unique<RealEventLoop>(clock)),
      pool_(std::make_unique<ThreadCallPool>(PoolThreads(options))),
      core_(options, clock, *loop_, *pool_, *events_, store, registry, metrics_),
      training_(MakeTrainingService(*loop_, core_, authenticator)),
      worker_(MakeWorkerService(*loop_, core_, authenticator)),
      operator_(MakeOperatorService(*loop_, core_, authenticator)) {}

SchedulerServer::~SchedulerServer() {
  Drain();
  pool_.reset();  // Its calls post to the loop.
  loop_.reset();
}

void SchedulerServer::Drain() {
  absl::Notification stopped;
  loop_->Post([this, &stopped] {
    core_.Stop();
    stopped.Notify();
  });
  stopped.WaitForNotification();
}

}  // namespace deltaworks::services

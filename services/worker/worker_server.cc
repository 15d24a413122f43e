#include "services/worker/worker_server.h"

#include <utility>

#include "absl/synchronization/notification.h"
#include "services/base/log.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr absl::Duration kListBasesEvery = absl::Seconds(30);

WorkerCore::Options CoreOptions(std::string name, int64_t incarnation,
                                const v1::WorkerEnvironment& environment) {
  WorkerCore::Options options;
  options.worker = std::move(name);
  options.incarnation = incarnation;
  options.environment = environment;
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const Options& options, StoreClient& store, WorkerSyncClient& scheduler, const Clock& clock,
    Metrics& metrics, std::function<void(absl::Status)> on_fatal) {
  std::string machine = options.machine_id;
  if (machine.empty()) {
    DW_ASSIGN_OR_RETURN(machine, MachineId());
  }
  DeviceSettings settings = options.device;
  settings.device = ChooseDevice(settings.device);
  DW_ASSIGN_OR_RETURN(std::string name, WorkerName(machine, settings.device));
  DW_ASSIGN_OR_RETURN(Device device, OpenDevice(settings));
  DW_ASSIGN_OR_RETURN(DeviceLock lock,
                      DeviceLock::Acquire(options.lock_folder, settings.device, clock.Now()));
  LogInfo("worker starts", {{"worker", name},
                            {"incarnation", lock.incarnation()},
                            {"device", device.environment.device_description()},
                            {"numerics_class", device.environment.numerics_class()},
                            {"memory_bytes", device.environment.memory_bytes()}});
  return std::unique_ptr<WorkerServer>(new WorkerServer(options, std::move(name), std::move(device),
                                                        std::move(lock), store, scheduler, clock,
                                                        metrics, std::move(on_fatal)));
}

WorkerServer::WorkerServer(const Options& options, std::string name, Device device, DeviceLock lock,
                           StoreClient& store, WorkerSyncClient& scheduler, const Clock& clock,
                           Metrics& metrics, std::function<void(absl::Status)> on_fatal)
    : lock_(std::move(lock)),
      metrics_(metrics),
      bases_(options.cache_folder, store, metrics),
      loop_(std::make_unique<RealEventLoop>(clock)),
      reports_(std::make_unique<ReportThread>(scheduler)),
      publisher_(std::make_unique<StorePublisher>(store, *loop_)),
      preparer_(std::make_unique<PreparerThread>(bases_, store)),
      trainer_(std::make_unique<TrainerThread>(
          JobEngine::Options{.new_backend = std::move(device.new_backend),
                             .memory_bytes = device.environment.memory_bytes()},
          *preparer_, *loop_, clock, metrics_)),
      core_(std::make_unique<WorkerCore>(
          CoreOptions(std::move(name), lock_.incarnation(), device.environment), clock, *loop_,
          *reports_, *trainer_, *publisher_, metrics_, std::move(on_fatal))),
      lister_(std::make_unique<RealEventLoop>(clock)) {
  trainer_->SetEvents(core_.get());
}

WorkerServer::~WorkerServer() {
  lister_.reset();
  trainer_->Shutdown();
  preparer_.reset();
  StopCore();
  reports_.reset();
  publisher_.reset();
  loop_.reset();
  core_.reset();
  trainer_.reset();
}

void WorkerServer::Serve() {
  lister_->Post([this] {
    ListBases();
    loop_->Post([this] { core_->Start(); });
  });
}

bool WorkerServer::Drain(absl::Duration deadline) {
  // Shared: a drain that is late may end after this.
  auto drained = std::make_shared<absl::Notification>();
  loop_->Post([this, drained] { core_->Drain([drained] { drained->Notify(); }); });
  const bool all = drained->WaitForNotificationWithTimeout(deadline);
  if (all) {
    LogInfo("all jobs were handed back");
  } else {
    LogWarning("not all jobs were handed back in time; their leases will end");
  }
  return all;
}

void WorkerServer::StopCore() {
  absl::Notification stopped;
  loop_->Post([this, &stopped] {
    core_->Stop();
    stopped.Notify();
  });
  stopped.WaitForNotification();
}

void WorkerServer::ListBases() {
  loop_->Post([this, bases = bases_.List()] { core_->SetBasesCached(bases); });
  lister_->PostAfter(kListBasesEvery, [this] { ListBases(); });
}

}  // namespace deltaworks::services

#include "services/worker/worker_server.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "services/base/address.h"
#include "services/base/log.h"
#include "trainer/base/status_macros.h"
#include "trainer/comm/nccl_library.h"

namespace deltaworks::services {
namespace {

constexpr absl::Duration kListBasesEvery = absl::Seconds(30);
constexpr int32_t kGangMax = 64;  // As placement.gang_size.

// Where the others of a gang connect to; said in `environment`.
absl::StatusOr<std::unique_ptr<trainer::TcpListener>> ListenForGangs(
    const std::string& gang_address, v1::WorkerEnvironment* environment) {
  if (gang_address.empty()) return nullptr;
  const bool has_port = absl::StrContains(gang_address, ':');
  HostPort address = {gang_address, 0};
  if (has_port) {
    DW_ASSIGN_OR_RETURN(address, ParseHostPort("--gang_address", gang_address));
  }
  DW_ASSIGN_OR_RETURN(std::unique_ptr<trainer::TcpListener> listener,
                      trainer::TcpListener::Bind(address.host, address.port));
  if (environment->device_kind() == "cuda") {
    const auto nccl = trainer::NcclLibrary::Load();
    if (!nccl.ok()) {
      LogWarning("this GPU is part of no gang", {{"error", nccl.status()}});
      return nullptr;
    }
  }
  environment->set_gang_address(listener->address());
  environment->set_gang_size_max(kGangMax);
  return listener;
}

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
  DW_ASSIGN_OR_RETURN(std::unique_ptr<trainer::TcpListener> gang_listener,
                      ListenForGangs(options.gang_address, &device.environment));
  LogInfo("worker starts", {{"worker", name},
                            {"incarnation", lock.incarnation()},
                            {"device", device.environment.device_description()},
                            {"numerics_class", device.environment.numerics_class()},
                            {"memory_bytes", device.environment.memory_bytes()},
                            {"gang_address", device.environment.gang_address()}});
  return std::unique_ptr<WorkerServer>(new WorkerServer(
      options, std::move(name), std::move(device), std::move(lock), std::move(gang_listener), store,
      scheduler, clock, metrics, std::move(on_fatal)));
}

WorkerServer::WorkerServer(const Options& options, std::string name, Device device, DeviceLock lock,
                           std::unique_ptr<trainer::TcpListener> gang_listener, StoreClient& store,
                           WorkerSyncClient& scheduler, const Clock& clock, Metrics& metrics,
                           std::function<void(absl::Status)> on_fatal)
    : lock_(std::move(lock)),
      gang_listener_(std::move(gang_listener)),
      metrics_(metrics),
      bases_(options.cache_folder, store, metrics),
      loop_(std::make_unique<RealEventLoop>(clock)),
      reports_(std::make_unique<ReportThread>(scheduler)),
      publisher_(std::make_unique<StorePublisher>(store, *loop_)),
      preparer_(std::make_unique<PreparerThread>(bases_, store, gang_listener_.get())),
      trainer_(std::make_unique<TrainerThread>(
          JobEngine::Options{.new_backend = std::move(device.compute.new_backend),
                             .new_collective = std::move(device.compute.new_collective),
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

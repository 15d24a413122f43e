#include "services/worker/worker_server.h"

#include <utility>

#include "services/base/log.h"
#include "trainer/base/mutex.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr absl::Duration kListBasesEvery = absl::Seconds(30);

// Something that one thread waits for and another makes happen.
class Happening {
 public:
  void Happen() {
    MutexLock lock(&mutex_);
    happened_ = true;
    changed_.SignalAll();
  }
  // False if `timeout` passed before.
  bool WaitFor(absl::Duration timeout) {
    const absl::Duration until = RealClock().Monotonic() + timeout;
    MutexLock lock(&mutex_);
    while (!happened_) {
      const absl::Duration left = until - RealClock().Monotonic();
      if (left <= absl::ZeroDuration()) return false;
      changed_.WaitWithTimeout(&mutex_, left);
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool happened_ ABSL_GUARDED_BY(mutex_) = false;
};

WorkerCore::Options CoreOptions(const std::string& name, int64_t incarnation,
                                const v1::WorkerEnvironment& environment) {
  WorkerCore::Options options;
  options.worker = name;
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
  DW_ASSIGN_OR_RETURN(std::string name, WorkerName(machine, options.device.device));
  DW_ASSIGN_OR_RETURN(Device device, OpenDevice(options.device));
  DW_ASSIGN_OR_RETURN(DeviceLock lock,
                      DeviceLock::Acquire(options.lock_folder, options.device.device, clock.Now()));
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
    : name_(std::move(name)),
      lock_(std::move(lock)),
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
          CoreOptions(name_, lock_.incarnation(), device.environment), clock, *loop_, *reports_,
          *trainer_, *publisher_, metrics_, std::move(on_fatal))) {
  trainer_->SetEvents(core_.get());
}

WorkerServer::~WorkerServer() {
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
  loop_->Post([this] {
    ListBases();
    core_->Start();
  });
}

bool WorkerServer::Drain(absl::Duration deadline) {
  auto drained = std::make_shared<Happening>();
  loop_->Post([this, drained] { core_->Drain([drained] { drained->Happen(); }); });
  const bool all = drained->WaitFor(deadline);
  if (all) {
    LogInfo("all jobs were handed back");
  } else {
    LogWarning("not all jobs were handed back in time; their leases will end");
  }
  return all;
}

void WorkerServer::StopCore() {
  auto stopped = std::make_shared<Happening>();
  loop_->Post([this, stopped] {
    core_->Stop();
    stopped->Happen();
  });
  stopped->WaitFor(absl::InfiniteDuration());
}

void WorkerServer::ListBases() {
  core_->SetBasesCached(bases_.List());
  loop_->PostAfter(kListBasesEvery, [this] { ListBases(); });
}

}  // namespace deltaworks::services

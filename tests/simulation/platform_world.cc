#include "tests/simulation/platform_world.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/base/random_id.h"
#include "services/base/resource_names.h"
#include "tests/simulation/job_content.h"
#include "tests/simulation/sqlite_on_disk.h"
#include "trainer/base/lock_order.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::simulation {
namespace {

constexpr Address kServers[] = {kScheduler, kRegistry, kStore};

// A part of the jobs comes in each; a day passes after it.
constexpr int kDays = 2;
constexpr absl::Duration kBusy = absl::Minutes(2);
constexpr absl::Duration kNight = absl::Hours(25);
// Time for the daily work, without faults.
constexpr absl::Duration kMorning = absl::Minutes(1);
// Without faults every job has ended after this.
constexpr absl::Duration kSettled = absl::Hours(4);

services::SchedulerCore::Options SchedulerOptions(SeededRandom& random) {
  services::SchedulerCore::Options options;
  options.random = [&random] { return random.Bits(); };
  options.snapshot_events = 500 + random.Below(2000);
  scheduler::Options& policy = options.policy;
  policy.lease_duration = absl::Seconds(random.Chance(0.3) ? 20 : 8);
  policy.checkpoint_interval = absl::Seconds(3 + random.Below(5));
  policy.yield_grace = absl::Seconds(10);
  policy.preempt_after = absl::Seconds(5);
  policy.archive_after = random.Between(absl::ZeroDuration(), absl::Seconds(30));
  policy.attempts_per_worker = random.Chance(0.3) ? 1 : 8;
  return options;
}

template <typename T>
T MustHave(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return *std::move(value);
}

}  // namespace

PlatformWorld::Site::Site(const std::string& name, Timeline& timeline, SeededRandom& random,
                          FaultCounts& counts)
    : machine(timeline, random.Between(absl::Seconds(1), absl::Hours(1000))),
      disk(name, timeline, machine, random, counts) {}

PlatformWorld::PlatformWorld(const PlatformOptions& options)
    : options_(options),
      random_(options.seed),
      scheduler_options_(SchedulerOptions(random_)),
      witness_(timeline_, scheduler_options_.policy),
      network_(timeline_, random_, counts_, options.workers),
      metrics_("simulation"),
      scheduler_metrics_(metrics_),
      store_metrics_(metrics_),
      registry_metrics_(metrics_),
      worker_metrics_(metrics_),
      scheduler_site_("scheduler/", timeline_, random_, counts_),
      registry_site_("registry/", timeline_, random_, counts_),
      store_site_("store/", timeline_, random_, counts_),
      workers_(static_cast<size_t>(options.workers)) {
  PutSqliteOnSimulatedDisks();
  IgnoreLockOrder();
  services::SetRandomBitsOfThread([this] { return random_.Bits(); });
  for (WorkerSite& site : workers_) {
    site.machine =
        std::make_unique<Machine>(timeline_, random_.Between(absl::Seconds(1), absl::Hours(1000)));
  }
  users_ = std::make_unique<Users>(*this);
  chaos_ = std::make_unique<Chaos>(*this);
}

PlatformWorld::~PlatformWorld() {
  workers_.clear();
  scheduler_.reset();
  registry_.reset();
  store_.reset();
  services::SetRandomBitsOfThread(nullptr);
}

PlatformWorld::Site& PlatformWorld::SiteOf(Address server) {
  if (server == kScheduler) return scheduler_site_;
  return server == kRegistry ? registry_site_ : store_site_;
}

// ---- Processes ----

absl::Status PlatformWorld::TryStart(Address server) {
  Site& site = SiteOf(server);
  if (server == kScheduler) {
    DW_ASSIGN_OR_RETURN(
        scheduler_,
        SchedulerProcess::Start(timeline_, site.machine, site.disk, network_, store_, registry_,
                                scheduler_options_, scheduler_metrics_, witness_));
  } else if (server == kRegistry) {
    DW_ASSIGN_OR_RETURN(registry_,
                        RegistryProcess::Start(timeline_, site.machine, site.disk, network_, store_,
                                               registry_metrics_, [this] {
                                                 counts_.Count("registry ends: unknown commit");
                                                 Kill(kRegistry);
                                               }));
  } else {
    DW_ASSIGN_OR_RETURN(store_,
                        StoreProcess::Start(timeline_, site.machine, site.disk, store_metrics_));
  }
  return absl::OkStatus();
}

void PlatformWorld::StartServer(Address server) {
  Site& site = SiteOf(server);
  site.starting = false;
  const bool lost_power = faults_ && random_.Chance(0.3);
  if (lost_power) counts_.Count("loss of power");
  site.disk.Restart(lost_power);
  if (TryStart(server).ok()) return;
  // Its disk failed meanwhile.
  Kill(server);
}

void PlatformWorld::Kill(Address server) {
  Site& site = SiteOf(server);
  if (std::exchange(site.starting, true)) return;
  site.disk.Crash();
  const auto kill = [](auto& process) {
    if (process != nullptr) process->Kill();
  };
  if (server == kScheduler) kill(scheduler_);
  if (server == kRegistry) kill(registry_);
  if (server == kStore) kill(store_);
  if (server == kScheduler && random_.Chance(0.5)) {
    for (WorkerSite& worker : workers_) {
      if (worker.process != nullptr && !worker.process->dead()) worker.process->channel().Break();
    }
  }
  // Later: it may be what runs.
  timeline_.After(absl::ZeroDuration(), [this, server] {
    if (server == kScheduler) scheduler_.reset();
    if (server == kRegistry) registry_.reset();
    if (server == kStore) store_.reset();
  });
  timeline_.After(random_.Between(absl::Seconds(1), absl::Seconds(10)),
                  [this, server] { StartServer(server); });
}

void PlatformWorld::StartWorker(int index) {
  WorkerSite& site = workers_[index];
  site.process = std::make_unique<WorkerProcess>(
      WorkerProcess::World{timeline_, random_, counts_, network_, scheduler_, store_,
                           worker_metrics_, witness_},
      *site.machine, kFirstWorker + index, absl::StrCat("workers/w", index), ++site.incarnation,
      [this, index] { KillWorker(index); });
  site.process->SetCutRate(faults_ ? 0.02 : 0);
  site.process->Start();
}

void PlatformWorld::KillWorker(int index) {
  WorkerSite& site = workers_[index];
  if (site.process == nullptr || site.process->dead()) return;
  site.process->Kill();
  witness_.Died(site.process->name());
  timeline_.After(absl::ZeroDuration(), [this, index] { workers_[index].process.reset(); });
  timeline_.After(random_.Between(absl::Seconds(1), absl::Seconds(30)),
                  [this, index] { StartWorker(index); });
}

void PlatformWorld::Furnish() {
  for (const Address server : kServers) CHECK(TryStart(server).ok());
  for (int tenant = 0; tenant < kTenants; ++tenant) {
    const std::string name = absl::StrCat("t", tenant);
    const BaseContent base = MakeBase(name);
    MustHave(store_->blobs().AddBytes(name, base.config));
    MustHave(store_->blobs().AddBytes(name, base.manifest));
    services::ResourceRow row{.name = base.base.name(), .message = base.base.SerializeAsString()};
    v1::ImportBaseModelRequest request;
    const absl::Status status = store_->metadata().InsertResource(
        name, "baseModels", "ImportBaseModel", row, {base.base.manifest_digest()}, request,
        store_site_.machine.Now());
    CHECK(status.ok()) << status;
  }
  for (int i = 0; i < workers(); ++i) StartWorker(i);
}

// ---- The story ----

void PlatformWorld::RunFor(absl::Duration time) {
  const absl::Duration end = timeline_.now() + time;
  while (witness_.violations().empty() && timeline_.RunNext(end)) {
  }
}

void PlatformWorld::Night() {
  const absl::Duration morning = timeline_.now() + kNight;
  chaos_->Rest(morning);
  users_->Rest(morning);
  scheduler_site_.machine.StopUntil(morning);
  registry_site_.machine.StopUntil(morning);
  for (WorkerSite& site : workers_) site.machine->StopUntil(morning);
  RunFor(kNight);
}

void PlatformWorld::StopFaults() {
  faults_ = false;
  chaos_->Stop();
  for (WorkerSite& site : workers_) {
    if (site.process == nullptr || site.process->dead()) continue;
    site.process->SetCutRate(0);
    site.process->channel().SetLies(0);
    site.process->DieAtCall(0);
  }
  users_->Calm();
}

void PlatformWorld::Settle() {
  const absl::Duration end = timeline_.now() + kSettled;
  do {
    RunFor(absl::Seconds(10));
    if (!witness_.violations().empty()) return;
    if (witness_.state().active_jobs() == 0 && users_->open() == 0) return;
  } while (timeline_.now() < end);
  int named = 0;
  for (const auto& [name, record] : witness_.state().jobs()) {
    if (scheduler::IsFinal(StateOf(record)) || ++named > 3) continue;
    witness_.Violation(absl::StrCat(name, " did not end: ", record.ShortDebugString()));
  }
  if (users_->open() > 0) witness_.Violation("somebody never got an answer");
}

void PlatformWorld::CheckJobs() {
  for (const std::string& job : witness_.accepted()) {
    if (witness_.IsDeleted(job)) continue;
    const scheduler::JobRecord* const record = witness_.FindJob(job);
    if (record == nullptr) {
      witness_.Violation(absl::StrCat(job, " was accepted and is not known"));
      continue;
    }
    const v1::JobStatus& status = record->job().status();
    if (!scheduler::IsFinal(status.state())) {
      witness_.Violation(absl::StrCat(job, " has not ended"));
    } else if (status.state() == v1::FAILED && status.failure().code().empty()) {
      witness_.Violation(absl::StrCat(job, " failed and does not say why"));
    } else if (status.state() == v1::SUCCEEDED && status.result().version().empty()) {
      witness_.Violation(absl::StrCat(job, " succeeded and has no version"));
    }
  }
}

PlatformResult PlatformWorld::Run() {
  Furnish();
  chaos_->Start();
  users_->Fidget();
  for (int day = 0; day < kDays; ++day) {
    users_->SubmitWithin(options_.jobs / kDays, kBusy * 0.8);
    RunFor(kBusy);
    if (day + 1 < kDays) Night();
  }
  services::LogInfo("faults stop", {{"active_jobs", witness_.state().active_jobs()},
                                    {"time", absl::FormatDuration(timeline_.now())}});
  StopFaults();
  Settle();
  services::LogInfo("settled", {{"time", absl::FormatDuration(timeline_.now())}});
  if (witness_.violations().empty()) CheckJobs();
  if (witness_.violations().empty()) CheckBlobs();

  PlatformResult result;
  result.violations = witness_.violations();
  result.faults = counts_;
  for (const std::string& job : witness_.accepted()) {
    const scheduler::JobRecord* const record = witness_.FindJob(job);
    if (record == nullptr) {
      ++result.deleted;
      continue;
    }
    const v1::JobState state = StateOf(*record);
    result.succeeded += state == v1::SUCCEEDED ? 1 : 0;
    result.failed += state == v1::FAILED ? 1 : 0;
    result.cancelled += state == v1::CANCELLED ? 1 : 0;
  }
  result.gangs = witness_.gangs();
  result.events = witness_.state().event_count();
  result.tasks = timeline_.tasks_run();
  result.messages = network_.sent();
  result.simulated = timeline_.now();
  result.digest = witness_.digest();
  return result;
}

// ---- The end ----

void PlatformWorld::CheckManifest(const std::string& owner, const std::string& digest) {
  const std::string tenant(services::TenantOf(owner));
  needed_pins_.emplace(owner, digest);
  needed_blobs_.insert(digest);
  const auto blob = store_->blobs().OpenVerified({tenant, owner, digest});
  const auto bytes = blob.ok() ? (*blob)->Map() : blob.status();
  if (!bytes.ok()) {
    return witness_.Violation(absl::StrCat(owner, " cannot be read: ", bytes.status().ToString()));
  }
  const auto manifest = services::ParseManifest(*bytes, owner);
  if (!manifest.ok()) return witness_.Violation(manifest.status().ToString());
  for (const v1::ManifestFile& file : manifest->files()) {
    needed_blobs_.insert(file.digest());
    const absl::Status read = store_->blobs().OpenVerified({tenant, owner, file.digest()}).status();
    if (read.ok()) continue;
    witness_.Violation(
        absl::StrCat(owner, ": ", file.path(), " cannot be read: ", read.ToString()));
  }
}

void PlatformWorld::CheckPins(const std::string& tenant) {
  constexpr int64_t kAll = 1'000'000;
  const auto pins = store_->metadata().ListPins(tenant, "", {}, kAll);
  if (!pins.ok()) return witness_.Violation(pins.status().ToString());
  for (const services::PinRow& pin : *pins) {
    if (needed_pins_.contains({pin.owner, pin.digest})) continue;
    witness_.Violation(absl::StrCat(pin.owner, " still pins ", pin.digest));
  }
}

void PlatformWorld::CheckBlobs() {
  // What stands in the log is loaded once more; and on each day the pins are compared.
  Kill(kScheduler);
  for (int day = 0; day < 2; ++day) {
    RunFor(kMorning);
    Night();
  }
  if (!witness_.state().jobs().empty()) witness_.Violation("after a night jobs are not archived");
  for (const auto& [name, record] : witness_.archived()) {
    if (record == nullptr) continue;
    const v1::JobStatus& status = record->job().status();
    for (const std::string& digest : NeededDigests(*record)) CheckManifest(name, digest);
    if (status.state() != v1::SUCCEEDED) continue;
    CheckManifest(status.result().version(), status.result().manifest_digest());
  }
  for (const auto& [version, digest] : witness_.versions_of_deleted()) {
    CheckManifest(version, digest);
  }
  for (int tenant = 0; tenant < kTenants; ++tenant) {
    const std::string name = absl::StrCat("t", tenant);
    const v1::BaseModel base = MakeBase(name).base;
    CheckManifest(base.name(), base.manifest_digest());
    CheckPins(name);
  }
  const auto totals = store_->metadata().CountTotals();
  if (!totals.ok()) return witness_.Violation(totals.status().ToString());
  if (totals->objects == static_cast<int64_t>(needed_blobs_.size())) return;
  witness_.Violation(
      absl::StrCat("the store has ", totals->objects, " blobs, want ", needed_blobs_.size()));
}

}  // namespace deltaworks::simulation

// PlatformWorld: scheduler, store, registry and workers in one process and on one timeline, with
// people who use them, until every job has ended; then everything is checked once more.
//
//   PlatformWorld   machines, disks, the network; starts and restarts processes
//    |- Users       submit jobs, change their minds, set quotas and modes
//    |- Chaos       decides what breaks, and when
//    `- Witness     sees it all
//
// Two worlds of the same options do exactly the same. Not thread-safe; worlds of different threads
// do not know of each other.

#ifndef DELTAWORKS_TESTS_SIMULATION_PLATFORM_WORLD_H_
#define DELTAWORKS_TESTS_SIMULATION_PLATFORM_WORLD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "services/base/metrics.h"
#include "tests/simulation/chaos.h"
#include "tests/simulation/fault_counts.h"
#include "tests/simulation/network.h"
#include "tests/simulation/registry_process.h"
#include "tests/simulation/scheduler_process.h"
#include "tests/simulation/simulated_disk.h"
#include "tests/simulation/store_process.h"
#include "tests/simulation/users.h"
#include "tests/simulation/witness.h"
#include "tests/simulation/worker_process.h"

namespace deltaworks::simulation {

struct PlatformOptions {
  uint64_t seed = 1;
  int jobs = 1000;
  int workers = 100;
};

struct PlatformResult {
  std::vector<std::string> violations;
  FaultCounts faults;
  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t cancelled = 0;
  int64_t deleted = 0;
  int64_t gangs = 0;   // Granted.
  int64_t events = 0;  // Of the scheduler's log.
  int64_t tasks = 0;   // Of the timeline.
  int64_t messages = 0;
  absl::Duration simulated;
  uint64_t digest = 0;  // Of the whole story.
};

class PlatformWorld final : public Platform {
 public:
  explicit PlatformWorld(const PlatformOptions& options);
  ~PlatformWorld() override;

  PlatformResult Run();

 private:
  struct WorkerSite {
    std::unique_ptr<Machine> machine;
    std::unique_ptr<WorkerProcess> process;
    int64_t incarnation = 0;  // Counted on the device.
  };
  // A machine of a service, and its disk.
  struct Site {
    Site(const std::string& name, Timeline& timeline, SeededRandom& random, FaultCounts& counts);
    Machine machine;
    SimulatedDisk disk;
    bool starting = false;
  };

  // ---- Platform: what chaos and users may do ----
  Timeline& timeline() override { return timeline_; }
  SeededRandom& random() override { return random_; }
  FaultCounts& counts() override { return counts_; }
  Network& network() override { return network_; }
  Witness& witness() override { return witness_; }
  int workers() const override { return static_cast<int>(workers_.size()); }
  WorkerProcess* worker(int index) override { return workers_[index].process.get(); }
  Machine& worker_machine(int index) override { return *workers_[index].machine; }
  Slot<SchedulerProcess>& scheduler() override { return scheduler_; }
  Slot<StoreProcess>& store() override { return store_; }
  Machine& machine(Address server) override { return SiteOf(server).machine; }
  SimulatedDisk& disk(Address server) override { return SiteOf(server).disk; }
  void Kill(Address server) override;
  void KillWorker(int index) override;

  Site& SiteOf(Address server);
  void StartServer(Address server);
  absl::Status TryStart(Address server);
  void StartWorker(int index);
  // Before any fault: what store and people have.
  void Furnish();

  void RunFor(absl::Duration time);
  // Everything but the store is stopped, so that a day costs little.
  void Night();
  void StopFaults();
  // Until every job has ended.
  void Settle();
  void CheckJobs();
  // After two more days: what is needed can be read, what is pinned is needed, and nothing else is
  // kept.
  void CheckBlobs();
  // Adds the manifest, once it was read through `owner`, and what it names.
  void CheckManifest(const std::string& owner, const std::string& digest);
  void CheckPins(const std::string& tenant);

  const PlatformOptions options_;
  SeededRandom random_;
  Timeline timeline_;
  FaultCounts counts_;
  services::SchedulerCore::Options scheduler_options_;
  Witness witness_;
  Network network_;

  services::Metrics metrics_;
  services::SchedulerMetrics scheduler_metrics_;
  services::StoreMetrics store_metrics_;
  services::RegistryMetrics registry_metrics_;
  services::WorkerMetrics worker_metrics_;

  bool faults_ = true;
  Site scheduler_site_;
  Site registry_site_;
  Site store_site_;
  Slot<SchedulerProcess> scheduler_;
  Slot<RegistryProcess> registry_;
  Slot<StoreProcess> store_;
  std::vector<WorkerSite> workers_;
  std::unique_ptr<Users> users_;
  // What must be in the store at the end, by CheckBlobs.
  absl::btree_set<std::pair<std::string, std::string>> needed_pins_;
  absl::btree_set<std::string> needed_blobs_;
  std::unique_ptr<Chaos> chaos_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_PLATFORM_WORLD_H_

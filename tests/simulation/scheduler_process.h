// SchedulerProcess: SchedulerCore on its own loop, its log on a simulated disk, its calls to store
// and registry on fibers.

#ifndef DELTAWORKS_TESTS_SIMULATION_SCHEDULER_PROCESS_H_
#define DELTAWORKS_TESTS_SIMULATION_SCHEDULER_PROCESS_H_

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "services/scheduler/scheduler_core.h"
#include "services/scheduler/testing/forwarding_event_store.h"
#include "tests/simulation/network.h"
#include "tests/simulation/registry_process.h"
#include "tests/simulation/simulated_disk.h"
#include "tests/simulation/store_link.h"
#include "tests/simulation/witness.h"

namespace deltaworks::simulation {

// Calls on fibers of a process, each begun a moment later.
class FiberCallPool final : public services::CallPool {
 public:
  explicit FiberCallPool(Process& process) : process_(process) {}
  void Run(Call call) override { process_.Spawn(std::move(call)); }

 private:
  Process& process_;
};

// Tells the witness what became durable.
class WitnessedEventStore final : public services::ForwardingEventStore {
 public:
  WitnessedEventStore(const Process& process, std::unique_ptr<services::EventStore> store,
                      Witness& witness)
      : ForwardingEventStore(std::move(store)), process_(process), witness_(witness) {}

  absl::StatusOr<Stored> Load() override;
  absl::Status Append(int64_t first_position, absl::Span<const scheduler::Event> events,
                      bool* is_known) override;

 private:
  const Process& process_;
  Witness& witness_;
};

class SchedulerProcess final : public Process {
 public:
  // An error: it ends at once.
  static absl::StatusOr<std::unique_ptr<SchedulerProcess>> Start(
      Timeline& timeline, Machine& machine, SimulatedDisk& disk, Network& network,
      Slot<StoreProcess>& store, Slot<RegistryProcess>& registry,
      const services::SchedulerCore::Options& options, services::SchedulerMetrics& metrics,
      Witness& witness);
  ~SchedulerProcess() override { Unwind(); }

  // On its loop.
  services::SchedulerCore& core() { return *core_; }

 private:
  SchedulerProcess(Timeline& timeline, Machine& machine, Network& network,
                   Slot<StoreProcess>& store, Slot<RegistryProcess>& registry, Witness& witness);

  StoreLink store_;
  RegistryLink registry_;
  FiberCallPool pool_;
  std::unique_ptr<WitnessedEventStore> events_;
  std::unique_ptr<services::SchedulerCore> core_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_SCHEDULER_PROCESS_H_

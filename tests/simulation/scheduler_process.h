// SchedulerProcess: SchedulerCore on its own loop, its log on a simulated disk, its calls to store
// and registry on fibers.

#ifndef DELTAWORKS_TESTS_SIMULATION_SCHEDULER_PROCESS_H_
#define DELTAWORKS_TESTS_SIMULATION_SCHEDULER_PROCESS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "services/scheduler/scheduler_core.h"
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
class WitnessedEventStore final : public services::EventStore {
 public:
  WitnessedEventStore(const Process& process, std::unique_ptr<services::EventStore> store,
                      Witness& witness)
      : process_(process), store_(std::move(store)), witness_(witness) {}

  absl::StatusOr<Stored> Load() override;
  absl::Status Append(int64_t first_position, absl::Span<const scheduler::Event> events,
                      bool* is_known) override;
  absl::Status WriteSnapshot(const scheduler::State& state) override {
    return store_->WriteSnapshot(state);
  }
  int64_t log_size() const override { return store_->log_size(); }
  absl::StatusOr<std::vector<v1::JobEvent>> ReadEvents(
      const std::string& job, int64_t since_seq, const services::ReadLimits& limits) override {
    return store_->ReadEvents(job, since_seq, limits);
  }
  absl::StatusOr<int64_t> OldestEvent(const std::string& job) override {
    return store_->OldestEvent(job);
  }
  absl::StatusOr<std::vector<v1::MetricPoint>> ReadMetrics(
      const std::string& job, int64_t since_index, const services::ReadLimits& limits) override {
    return store_->ReadMetrics(job, since_index, limits);
  }
  absl::StatusOr<int64_t> IndexBeforeStep(const std::string& job, int64_t step_min) override {
    return store_->IndexBeforeStep(job, step_min);
  }
  absl::StatusOr<std::optional<scheduler::ArchivedJob>> FindArchived(
      const std::string& name) override {
    return store_->FindArchived(name);
  }
  absl::StatusOr<std::optional<scheduler::StoredRequest>> FindArchivedRequest(
      absl::string_view tenant, absl::string_view rpc, absl::string_view request_id) override {
    return store_->FindArchivedRequest(tenant, rpc, request_id);
  }
  absl::StatusOr<std::vector<std::shared_ptr<const scheduler::JobRecord>>> ListArchived(
      const services::ArchiveQuery& query) override {
    return store_->ListArchived(query);
  }
  absl::StatusOr<std::vector<std::string>> EndedBefore(absl::Time time,
                                                       int64_t count_max) override {
    return store_->EndedBefore(time, count_max);
  }

 private:
  const Process& process_;
  const std::unique_ptr<services::EventStore> store_;
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

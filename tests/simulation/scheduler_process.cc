#include "tests/simulation/scheduler_process.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "services/scheduler/sqlite_event_store.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::simulation {

absl::StatusOr<services::EventStore::Stored> WitnessedEventStore::Load() {
  absl::StatusOr<Stored> stored = store().Load();
  // Whatever a dead process still reads, it tells nobody.
  if (stored.ok() && !process_.dead()) witness_.Loaded(*stored, store());
  return stored;
}

absl::Status WitnessedEventStore::Append(int64_t first_position,
                                         absl::Span<const scheduler::Event> events,
                                         bool* is_known) {
  absl::Status status = store().Append(first_position, events, is_known);
  if (!status.ok()) {
    witness_.CommitFailed(events);
    return status;
  }
  witness_.Committed(events);
  if (witness_.TakeReplayDue()) {
    if (const auto stored = store().Load(); stored.ok()) witness_.Loaded(*stored, store());
  }
  return status;
}

SchedulerProcess::SchedulerProcess(Timeline& timeline, Machine& machine, Network& network,
                                   Slot<StoreProcess>& store, Slot<RegistryProcess>& registry,
                                   Witness& witness)
    : Process(timeline, machine),
      store_(*this, network, kScheduler, store),
      registry_(*this, network, registry, witness),
      pool_(*this) {}

absl::StatusOr<std::unique_ptr<SchedulerProcess>> SchedulerProcess::Start(
    Timeline& timeline, Machine& machine, SimulatedDisk& disk, Network& network,
    Slot<StoreProcess>& store, Slot<RegistryProcess>& registry,
    const services::SchedulerCore::Options& options, services::SchedulerMetrics& metrics,
    Witness& witness) {
  std::unique_ptr<SchedulerProcess> process(
      new SchedulerProcess(timeline, machine, network, store, registry, witness));
  DW_ASSIGN_OR_RETURN(auto events, services::SqliteEventStore::Open(
                                       {.path = absl::StrCat(disk.name(), "scheduler.db")}));
  process->events_ = std::make_unique<WitnessedEventStore>(*process, std::move(events), witness);
  process->core_ = std::make_unique<services::SchedulerCore>(
      options, machine, process->loop(), process->pool_, *process->events_, process->store_,
      process->registry_, metrics);
  DW_RETURN_IF_ERROR(process->core_->Start());
  return process;
}

}  // namespace deltaworks::simulation

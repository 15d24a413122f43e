#include "tests/simulation/registry_process.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/random_id.h"
#include "services/registry/registry_tables.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::simulation {
namespace {

// As RegistryServer does.
constexpr absl::Duration kReconcileInterval = absl::Hours(24);
constexpr absl::Duration kReconcileRetry = absl::Minutes(1);

}  // namespace

RegistryProcess::RegistryProcess(Timeline& timeline, Machine& machine, Network& network,
                                 Slot<StoreProcess>& store)
    : ServerProcess(timeline, machine), store_(*this, network, kRegistry, store) {
  store_.around = [this](bool after, bool drops_pin) { AroundCall(after, drops_pin); };
}

absl::StatusOr<std::unique_ptr<RegistryProcess>> RegistryProcess::Start(
    Timeline& timeline, Machine& machine, SimulatedDisk& disk, Network& network,
    Slot<StoreProcess>& store, services::RegistryMetrics& metrics,
    std::function<void()> on_broken) {
  DW_ASSIGN_OR_RETURN(auto tables,
                      services::RegistryTables::Open(absl::StrCat(disk.name(), "registry.db"), {}));
  std::unique_ptr<RegistryProcess> registry(new RegistryProcess(timeline, machine, network, store));
  registry->core_ = std::make_unique<services::RegistryCore>(
      std::move(tables), registry->store_, machine, metrics,
      services::RegistryCore::Options{
          .broken = [on_broken = std::move(on_broken)](absl::Status) { on_broken(); }});
  registry->Spawn([registry = registry.get()] { registry->Maintain(); });
  return registry;
}

void RegistryProcess::Serve(absl::AnyInvocable<void()> call) {
  calls_.push_back(std::move(call));
  ServeNext();
}

void RegistryProcess::ServeNext() {
  if (next_is_posted_ || calls_.empty() || dead()) return;
  next_is_posted_ = true;
  Spawn([this, call = std::move(calls_.front())]() mutable {
    serving_ = true;  // Not before: a process may die before the fiber begins.
    WaitWhile(dropping_pin_);
    call();
    serving_ = next_is_posted_ = false;
    ServeNext();
  });
  calls_.pop_front();
}

void RegistryProcess::Maintain() {
  maintenance_ = Fiber::Current();
  while (!dead()) Sleep(core_->Reconcile().ok() ? kReconcileInterval : kReconcileRetry);
}

void RegistryProcess::AroundCall(bool after, bool drops_pin) {
  if (Fiber::Current() != maintenance_) return;
  if (drops_pin) {
    dropping_pin_ = !after;
  } else if (after) {
    WaitWhile(serving_);
  }
}

void RegistryProcess::WaitWhile(const bool& busy) {
  while (busy) {
    if (dead()) {
      Fiber::Suspend();  // The other one is resumed, too.
    } else {
      Sleep(absl::Milliseconds(10));
    }
  }
}

absl::StatusOr<v1::AdapterVersion> RegistryLink::CreateVersion(
    const v1::CreateVersionRequest& request) {
  v1::CreateVersionRequest with_id = request;
  if (with_id.request_id().empty()) with_id.set_request_id(services::RandomHexId());
  return CallWithRepeats<v1::AdapterVersion, RegistryProcess>(
      caller_, network_, kScheduler, kRegistry, registry_,
      [request = std::move(with_id), &witness = witness_](RegistryProcess& registry) {
        auto version = registry.core().CreateVersion({services::kAllTenants}, request);
        if (version.ok() && !registry.dead()) witness.VersionMade(*version);
        return version;
      });
}

}  // namespace deltaworks::simulation

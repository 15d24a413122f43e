// RegistryProcess: RegistryCore over SQLite on a simulated disk, and its maintenance.
//
// Calls run on fibers, and a fiber that waits for the store while it holds a lock of the core must
// not meet another that wants it: versions are made one after the other, and none while the
// maintenance drops a pin. Everything else interleaves.

#ifndef DELTAWORKS_TESTS_SIMULATION_REGISTRY_PROCESS_H_
#define DELTAWORKS_TESTS_SIMULATION_REGISTRY_PROCESS_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "services/clients/registry_client.h"
#include "services/registry/registry_core.h"
#include "tests/simulation/network.h"
#include "tests/simulation/simulated_disk.h"
#include "tests/simulation/store_link.h"
#include "tests/simulation/witness.h"

namespace deltaworks::simulation {

class RegistryProcess final : public ServerProcess {
 public:
  // `on_broken` is called if the process is to end. An error: it ends at once.
  static absl::StatusOr<std::unique_ptr<RegistryProcess>> Start(
      Timeline& timeline, Machine& machine, SimulatedDisk& disk, Network& network,
      Slot<StoreProcess>& store, services::RegistryMetrics& metrics,
      std::function<void()> on_broken);
  ~RegistryProcess() override { Unwind(); }

  void Serve(absl::AnyInvocable<void()> call) override;
  services::RegistryCore& core() { return *core_; }

 private:
  RegistryProcess(Timeline& timeline, Machine& machine, Network& network,
                  Slot<StoreProcess>& store);
  void ServeNext();
  void Maintain();
  // Around each call to the store.
  void AroundCall(bool after, bool drops_pin);
  void WaitWhile(const bool& busy);

  StoreLink store_;
  std::unique_ptr<services::RegistryCore> core_;
  std::deque<absl::AnyInvocable<void()>> calls_;
  const Fiber* maintenance_ = nullptr;
  bool next_is_posted_ = false;
  bool serving_ = false;
  bool dropping_pin_ = false;
};

// CreateVersion over the network, for the scheduler's calls. The witness sees what is answered.
class RegistryLink final : public services::RegistryClient {
 public:
  RegistryLink(Process& caller, Network& network, Slot<RegistryProcess>& registry, Witness& witness)
      : caller_(caller), network_(network), registry_(registry), witness_(witness) {}

  absl::StatusOr<v1::AdapterVersion> CreateVersion(
      const v1::CreateVersionRequest& request) override;

  // Nobody here asks for these.
  absl::StatusOr<v1::AdapterVersion> GetVersion(const std::string&) override { return Absent(); }
  absl::StatusOr<v1::Adapter> GetAdapter(const std::string&) override { return Absent(); }
  absl::StatusOr<v1::ListAdaptersResponse> ListAdapters(const v1::ListAdaptersRequest&) override {
    return Absent();
  }
  absl::StatusOr<v1::ListVersionsResponse> ListVersions(const v1::ListVersionsRequest&) override {
    return Absent();
  }
  absl::StatusOr<v1::Alias> SetAlias(const v1::SetAliasRequest&) override { return Absent(); }
  absl::StatusOr<v1::Alias> GetAlias(const std::string&) override { return Absent(); }
  absl::StatusOr<v1::ListAliasesResponse> ListAliases(const v1::ListAliasesRequest&) override {
    return Absent();
  }
  absl::Status DeleteAlias(const v1::DeleteAliasRequest&) override { return Absent(); }
  absl::StatusOr<v1::ListAliasHistoryResponse> ListAliasHistory(
      const v1::ListAliasHistoryRequest&) override {
    return Absent();
  }
  absl::Status DownloadVersion(const v1::DownloadVersionRequest&, const Sink&) override {
    return Absent();
  }

 private:
  static absl::Status Absent() { return absl::UnimplementedError("not simulated"); }

  Process& caller_;
  Network& network_;
  Slot<RegistryProcess>& registry_;
  Witness& witness_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_REGISTRY_PROCESS_H_

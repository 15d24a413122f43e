// WorkerProcess: WorkerCore with a simulated trainer, over the simulated network.
//
//   SimulatedChannel    its Syncs; a lying worker adds to them what it has no right to say
//   FiberPublisher      PublishArtifact and ReadBackAdapter on fibers, one after the other

#ifndef DELTAWORKS_TESTS_SIMULATION_WORKER_PROCESS_H_
#define DELTAWORKS_TESTS_SIMULATION_WORKER_PROCESS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "services/worker/worker_core.h"
#include "tests/simulation/network.h"
#include "tests/simulation/scheduler_process.h"
#include "tests/simulation/simulated_trainer.h"
#include "tests/simulation/store_link.h"
#include "tests/simulation/witness.h"

namespace deltaworks::simulation {

class SimulatedChannel final : public services::ReportChannel {
 public:
  SimulatedChannel(Process& process, Network& network, int address,
                   Slot<SchedulerProcess>& scheduler, Witness& witness, FaultCounts& counts)
      : process_(process),
        network_(network),
        address_(address),
        scheduler_(scheduler),
        witness_(witness),
        counts_(counts) {}

  void Send(const v1::SyncRequest& request, absl::Duration timeout, Done done) override;
  void GiveUp() override;
  // The connection breaks.
  void Break();
  void SetLies(double rate) { lie_rate_ = rate; }

 private:
  struct Sync {
    std::string worker;
    absl::Duration sent_at;
    int64_t id = 0;  // At the scheduler; 0: it has not come.
    Done done;       // Null when it has ended.
  };

  void Finish(Sync& sync, absl::StatusOr<v1::SyncResponse> answer);
  void Arrive(const std::shared_ptr<Sync>& sync, std::shared_ptr<const v1::SyncRequest> request);
  // Adds attempts of others, wrong epochs, and results that it does not have.
  void Lie(v1::SyncRequest& request);

  Process& process_;
  Network& network_;
  const int address_;
  Slot<SchedulerProcess>& scheduler_;
  Witness& witness_;
  FaultCounts& counts_;
  double lie_rate_ = 0;
  std::shared_ptr<Sync> sync_;
  // Attempts whose result was accepted.
  absl::flat_hash_set<std::string> accepted_;
};

class FiberPublisher final : public services::Publisher {
 public:
  FiberPublisher(Process& process, services::StoreClient& store)
      : process_(process), store_(store) {}

  void Publish(const std::string& job, std::shared_ptr<const services::Artifact> artifact,
               Done done) override;
  void ReadBack(const std::string& job, std::shared_ptr<const services::Artifact> artifact,
                ReadDone done) override;

 private:
  void Run(absl::AnyInvocable<void()> work);

  Process& process_;
  services::StoreClient& store_;
  std::deque<absl::AnyInvocable<void()>> work_;
  bool working_ = false;
};

class WorkerProcess final : public Process {
 public:
  struct World {
    Timeline& timeline;
    SeededRandom& random;
    FaultCounts& counts;
    Network& network;
    Slot<SchedulerProcess>& scheduler;
    Slot<StoreProcess>& store;
    services::WorkerMetrics& metrics;
    Witness& witness;
  };

  // `on_end` is called when it ends by itself, or dies.
  WorkerProcess(const World& world, Machine& machine, int address, std::string name,
                int64_t incarnation, std::function<void()> on_end);
  ~WorkerProcess() override { Unwind(); }

  void Start() {
    loop().Post([this] { core_.Start(); });
  }
  void Drain();
  SimulatedChannel& channel() { return channel_; }
  // Dies at its `calls`-th call to the store from now.
  void DieAtCall(int64_t calls) { die_in_calls_ = calls; }
  // Of streams to the store.
  void SetCutRate(double rate) { store_.cut_rate = rate; }
  const std::string& name() const { return name_; }

 private:
  SimulatedTrainer::Hooks MakeHooks(Witness& witness);

  const std::string name_;
  const std::function<void()> on_end_;
  int64_t die_in_calls_ = 0;
  StoreLink store_;
  SimulatedChannel channel_;
  FiberPublisher publisher_;
  SimulatedTrainer trainer_;
  services::WorkerCore core_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_WORKER_PROCESS_H_

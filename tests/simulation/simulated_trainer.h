// SimulatedTrainer: a Trainer whose steps take time and whose numbers are those of job_content.h.
// It reads its start checkpoint from the store, as a job's preparation does. Lives on the loop of
// its worker.

#ifndef DELTAWORKS_TESTS_SIMULATION_SIMULATED_TRAINER_H_
#define DELTAWORKS_TESTS_SIMULATION_SIMULATED_TRAINER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/container/btree_map.h"
#include "services/clients/store_client.h"
#include "services/worker/seams.h"
#include "tests/simulation/process.h"
#include "tests/simulation/seeded_random.h"

namespace deltaworks::simulation {

class SimulatedTrainer final : public services::Trainer {
 public:
  struct Hooks {
    // It takes the attempt up.
    std::function<void(const services::AttemptKey& key)> on_start;
    // The attempt begins a step.
    std::function<void(const services::AttemptKey& key)> on_step;
    // Its run is over: it left, failed, finished or was dropped.
    std::function<void(const services::AttemptKey& key)> on_gone;
    // The job kills who trains it.
    std::function<void()> die;
    // Something is wrong that no fault explains.
    std::function<void(const std::string& what)> violation;
  };

  // `store` answers on fibers of `process`. `events` must be set before the first Start.
  SimulatedTrainer(Process& process, services::StoreClient& store, SeededRandom& random,
                   Hooks hooks)
      : process_(process), store_(store), random_(random), hooks_(std::move(hooks)) {}
  void SetEvents(services::TrainerEvents& events) { events_ = &events; }

  void Start(const services::AttemptKey& key, const v1::TrainTask& task) override;
  void TakeCheckpoint(const services::AttemptKey& key) override;
  void Park(const services::AttemptKey& key) override;
  void Resume(const services::AttemptKey& key) override;
  void Leave(const services::AttemptKey& key) override;
  void Stop(const services::AttemptKey& key) override;
  void Verify(const services::AttemptKey& key, std::string adapter_model,
              std::string adapter_config) override;
  void Forget(const services::AttemptKey& key) override;

 private:
  struct Run {
    services::AttemptKey key;
    v1::TrainTask task;
    uint64_t state = 0;
    int64_t step = 0;
    int64_t checkpoint_step = 0;  // Of the last one that was made, or begun from.
    absl::Duration device_time;
    bool prepared = false;
    bool stepping = false;
    bool parked = false;
    bool wants_checkpoint = false;
    bool leaves = false;
    bool stops = false;
    bool finished = false;
  };

  // nullptr if it is over.
  Run* Find(const services::AttemptKey& key);
  void Prepare(const services::AttemptKey& key);
  absl::StatusOr<uint64_t> ReadCheckpoint(const services::AttemptKey& key,
                                          const v1::Checkpoint& checkpoint);
  // Does what was asked for between steps, then begins the next one.
  void Advance(Run& run);
  void EndStep(const services::AttemptKey& key, absl::Duration took);
  void Finish(Run& run);
  void Gone(const services::AttemptKey& key);
  // Tells the core, in a task of its own.
  template <typename Event>
  void Tell(Event event) {
    process_.loop().Post([this, event = std::move(event)]() mutable { event(*events_); });
  }

  Process& process_;
  services::StoreClient& store_;
  SeededRandom& random_;
  const Hooks hooks_;
  services::TrainerEvents* events_ = nullptr;
  absl::btree_map<std::string, Run> runs_;  // By attempt id.
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_SIMULATED_TRAINER_H_

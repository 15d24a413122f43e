// Asks: the questions that jobs wait for: is it valid (store), make it a version (registry).
//
// The state says which jobs wait for which answer. Tenants take turns; each job is asked once at a
// time, on the CallPool, and again after a growing wait as long as it waits. Repeating is safe:
// ValidateTraining changes nothing and CreateVersion is keyed by job and manifest. Only committed
// states are asked about. Lives on the loop; calls run on the pool.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_ASKS_H_
#define DELTAWORKS_SERVICES_SCHEDULER_ASKS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/command.h"
#include "scheduler/state.h"
#include "services/base/event_loop.h"
#include "services/clients/registry_client.h"
#include "services/clients/store_client.h"
#include "services/scheduler/call_pool.h"
#include "services/scheduler/metrics.h"

namespace deltaworks::services {

class Asks {
 public:
  struct Options {
    // Calls of one kind under way.
    int64_t validations_max = 2;
    int64_t versions_max = 2;
    // The wait after an answer that settled nothing doubles up to wait_max.
    absl::Duration wait_first = absl::Milliseconds(500);
    absl::Duration wait_max = absl::Seconds(30);
  };

  // `on_answer` gets each answer, on the loop. References must outlive this and the pool's calls.
  Asks(const Options& options, EventLoop& loop, CallPool& pool, StoreClient& store,
       RegistryClient& registry, std::function<void(scheduler::Command)> on_answer,
       SchedulerMetrics& metrics);

  // Asks the store; `on_answer` is called on the loop. Not asked again.
  void Validate(v1::ValidateTrainingRequest request,
                absl::AnyInvocable<void(absl::StatusOr<v1::ValidateTrainingResponse>)> on_answer);

  // Jobs that one Start looks at, of each kind; the next goes on where it ended.
  static constexpr int64_t kLooksMax = 1'000;

  // Asks about those of the jobs whose turn it is. `state` is committed. To be called at every
  // turn.
  void Start(const scheduler::State& state, absl::Time now);

  // Jobs that are remembered, of both kinds: at most twice those that wait, or kLooksMax of a kind.
  size_t remembered() const { return validations_.by_job.size() + versions_.by_job.size(); }

 private:
  // A job's question: under way, or when it may be asked again.
  struct Question {
    bool under_way = false;
    absl::Time not_before = absl::InfinitePast();
    absl::Duration wait;
  };
  // All of one kind.
  struct Questions {
    absl::flat_hash_map<std::string, Question> by_job;
    int64_t under_way = 0;
    // Where the next look begins: at a name, or behind all of a tenant.
    std::string next;
    // So many are kept before those that are settled are dropped.
    size_t kept_max = kLooksMax;
  };

  // Calls `ask` for each of `jobs` whose turn it is, with at most `max` under way.
  void StartKind(const scheduler::State::Names& jobs, int64_t max, Questions* questions,
                 absl::FunctionRef<bool(const std::string& job)> ask);
  // Of the jobs that no longer wait.
  void DropSettled(const scheduler::State::Names& jobs, Questions* questions) const;
  void AskStore(const std::string& job, const scheduler::JobRecord& record);
  void AskRegistry(const std::string& job, const scheduler::JobRecord& record);
  // On the loop, when the call is done.
  void Finished(const std::string& job, Questions* questions);

  const Options options_;
  EventLoop& loop_;
  CallPool& pool_;
  StoreClient& store_;
  RegistryClient& registry_;
  const std::function<void(scheduler::Command)> on_answer_;
  SchedulerMetrics& metrics_;
  absl::Time now_;  // Of the last Start.
  Questions validations_;
  Questions versions_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_ASKS_H_

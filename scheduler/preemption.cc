#include "scheduler/preemption.h"

#include <algorithm>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "scheduler/job_record.h"
#include "scheduler/placement.h"
#include "scheduler/proto_time.h"
#include "scheduler/queue_order.h"

namespace deltaworks::scheduler {
namespace {

// Waiting jobs looked at in one turn; those behind get theirs when these are served.
constexpr int kScanMax = 100;

// The job whose attempt is all that `worker` holds, nullptr if there is no such one.
const JobRecord* OnlyJobOn(const State& state, const std::string& worker) {
  const State::Names& jobs = state.JobsOn(worker);
  return jobs.size() == 1 ? state.FindJob(*jobs.begin()) : nullptr;
}

bool IsCleared(const JobRecord& running) {
  return running.current().ordered() != v1::Assignment::DESIRED_UNSPECIFIED &&
         running.current().order_reason() == v1::PREEMPTED;
}

bool CouldUse(const JobRecord& waiting, const WorkerInfo& worker, bool any_class) {
  return worker.online && !worker.draining &&
         CheckWorkerKind(waiting, worker, any_class).verdict == Verdict::kFits;
}

bool IsCandidate(const JobRecord& running, const Options& options, absl::Time now) {
  const v1::Attempt& attempt = *running.job().status().attempts().rbegin();
  return StateOf(running) == v1::RUNNING &&
         running.current().ordered() == v1::Assignment::DESIRED_UNSPECIFIED &&
         now - FromProto(attempt.grant_time()) >= options.preempt_after;
}

bool MayTake(const JobRecord& waiting, const JobRecord& running, const Options& options) {
  return waiting.job().priority_class() > running.job().priority_class() &&
         MakeQueueKey(waiting.job(), options) < MakeQueueKey(running.job(), options);
}

// True if `a` is a better victim than `b`.
bool RatherTake(const JobRecord& a, const JobRecord& b, const Options& options) {
  if (a.job().priority_class() != b.job().priority_class()) {
    return a.job().priority_class() < b.job().priority_class();
  }
  return MakeQueueKey(b.job(), options) < MakeQueueKey(a.job(), options);
}

using Workers = absl::btree_set<std::string>;

// Takes the first worker that `waiting` could use out of `cleared`; false if there is none.
bool ClaimCleared(const JobRecord& waiting, const Fleet& fleet, bool any_class, Workers* cleared) {
  for (const std::string& name : *cleared) {
    const auto worker = fleet.workers().find(name);
    if (worker == fleet.workers().end() || !CouldUse(waiting, worker->second, any_class)) continue;
    cleared->erase(name);
    return true;
  }
  return false;
}

// Running jobs that may be asked to leave, by worker.
using Candidates = absl::btree_map<std::string, const JobRecord*>;

Candidates FindCandidates(const State& state, const Options& options, absl::Time now) {
  Candidates candidates;
  for (const auto& [worker, jobs] : state.jobs_by_worker()) {
    const JobRecord* running = OnlyJobOn(state, worker);
    if (running != nullptr && IsCandidate(*running, options, now)) candidates[worker] = running;
  }
  return candidates;
}

const JobRecord* ChooseVictim(const JobRecord& waiting, const Candidates& candidates,
                              const Fleet& fleet, const Options& options, absl::Time now) {
  const bool any_class = MayChangeClass(waiting, fleet, options, now);
  const JobRecord* victim = nullptr;
  for (const auto& [name, running] : candidates) {
    if (!MayTake(waiting, *running, options)) continue;
    const auto worker = fleet.workers().find(name);
    if (worker == fleet.workers().end() || !CouldUse(waiting, worker->second, any_class)) continue;
    if (victim == nullptr || RatherTake(*running, *victim, options)) victim = running;
  }
  return victim;
}

Workers ClearedWorkers(const State& state) {
  Workers cleared;
  for (const auto& [worker, jobs] : state.jobs_by_worker()) {
    const JobRecord* running = OnlyJobOn(state, worker);
    if (running != nullptr && IsCleared(*running)) cleared.insert(worker);
  }
  return cleared;
}

}  // namespace

std::vector<Preemption> ChoosePreemptions(const State& state, const Fleet& fleet,
                                          const Options& options, absl::Time now) {
  std::vector<Preemption> chosen;
  if (!options.preemption) return chosen;
  Workers cleared = ClearedWorkers(state);
  Candidates candidates = FindCandidates(state, options, now);
  int scanned = 0;
  for (const QueueKey& key : state.queue()) {
    if (++scanned > kScanMax || candidates.empty()) break;
    const JobRecord& waiting = *state.FindJob(key.job);
    if (ClaimCleared(waiting, fleet, MayChangeClass(waiting, fleet, options, now), &cleared)) {
      continue;
    }
    const JobRecord* victim = ChooseVictim(waiting, candidates, fleet, options, now);
    if (victim == nullptr) continue;
    candidates.erase(victim->current().worker());
    chosen.push_back({.victim = victim->job().name(), .by = key.job});
  }
  return chosen;
}

bool IsBeingClearedFor(const JobRecord& record, const State& state, const Fleet& fleet,
                       const Options& options, absl::Time now) {
  Workers cleared = ClearedWorkers(state);
  return ClaimCleared(record, fleet, MayChangeClass(record, fleet, options, now), &cleared);
}

}  // namespace deltaworks::scheduler

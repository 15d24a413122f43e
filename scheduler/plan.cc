#include "scheduler/plan.h"

#include <vector>

#include "scheduler/job_record.h"
#include "scheduler/placement.h"
#include "scheduler/preemption.h"
#include "scheduler/queue_order.h"

namespace deltaworks::scheduler {
namespace {

void PlanEnds(const State& state, const LeaseTable& leases, absl::Time now, Plan* plan) {
  for (const Lease& lease : leases.Expired(now)) {
    const JobRecord* record = state.FindJob(lease.job);
    if (record == nullptr || !IsCurrent(*record, lease.lease_epoch, lease.attempt_id)) continue;
    plan->commands.push_back(EndLease{
        .job = lease.job, .lease_epoch = lease.lease_epoch, .attempt_id = lease.attempt_id});
  }
}

std::vector<const WorkerInfo*> FreeWorkers(const Fleet& fleet, const Slots& slots) {
  std::vector<const WorkerInfo*> free;
  for (const auto& [name, worker] : fleet.workers()) {
    if (worker.online && !worker.draining && !slots.Full(name)) free.push_back(&worker);
  }
  return free;
}

void PlanGrants(const State& state, const Fleet& fleet, const Options& options, absl::Time now,
                Plan* plan) {
  Slots slots(state, options);
  std::vector<const WorkerInfo*> free = FreeWorkers(fleet, slots);
  for (const QueueKey& key : state.queue()) {
    if (free.empty()) return;
    const JobRecord& record = *state.FindJob(key.job);
    const WorkerInfo* worker =
        ChooseWorker(record, free, MayChangeClass(record, fleet, options, now), slots);
    if (worker == nullptr) continue;
    slots.Take(worker->name, record);
    if (slots.Full(worker->name)) std::erase(free, worker);
    plan->commands.push_back(
        GrantAttempt{.job = key.job,
                     .worker = worker->name,
                     .worker_incarnation = worker->incarnation,
                     .numerics_class = worker->environment.numerics_class(),
                     .alone = options.attempts_per_worker == 1 || record.run_alone()});
  }
}

}  // namespace

Plan MakePlan(const State& state, const Fleet& fleet, const LeaseTable& leases,
              const Options& options, absl::Time now) {
  Plan plan;
  PlanEnds(state, leases, now, &plan);
  const size_t ends = plan.commands.size();
  PlanGrants(state, fleet, options, now, &plan);
  // Who makes room is asked only once nothing is left to give.
  if (plan.commands.size() == ends) {
    for (const Preemption& preemption : ChoosePreemptions(state, fleet, options, now)) {
      plan.commands.push_back(PreemptAttempt{.job = preemption.victim, .by = preemption.by});
    }
  }
  plan.validations.assign(state.validating().begin(), state.validating().end());
  for (const std::string& job : state.finalizing()) {
    if (state.FindJob(job)->missing_blobs().empty()) plan.versions.push_back(job);
  }
  return plan;
}

}  // namespace deltaworks::scheduler

#include "scheduler/plan.h"

#include <utility>
#include <vector>

#include "scheduler/grant_planner.h"
#include "scheduler/job_record.h"
#include "scheduler/preemption.h"
#include "scheduler/proto_time.h"

namespace deltaworks::scheduler {
namespace {

void PlanEnds(const State& state, const LeaseTable& leases, absl::Time now, Plan* plan) {
  for (const Lease& lease : leases.Expired(now)) {
    const JobRecord* record = state.FindJob(lease.job);
    if (record == nullptr || !IsCurrent(*record, lease.lease_epoch, lease.attempt_id)) continue;
    plan->commands.push_back(EndLease{.job = lease.job,
                                      .lease_epoch = lease.lease_epoch,
                                      .attempt_id = lease.attempt_id,
                                      .worker = lease.worker});
  }
}

// What time alone brings about.
void PlanTimes(const State& state, absl::Time now, Plan* plan) {
  for (const auto& [time, job] : state.waits_until()) {
    if (time > now) break;
    plan->commands.push_back(ReleaseJob{job});
  }
  for (const auto& [time, job] : state.deadlines()) {
    if (time > now) break;
    plan->commands.push_back(ExpireJob{job});
  }
}

void PlanQuarantines(const State& state, const Options& options, absl::Time now, Plan* plan) {
  for (const auto& [worker, trouble] : state.troubles().all()) {
    if (options.incidents_until_quarantine > 0 &&
        trouble.incidents() >= options.incidents_until_quarantine &&
        state.WorkerMode(worker) == v1::WORKER_ACTIVE) {
      plan->commands.push_back(QuarantineWorker{worker});
    }
  }
  for (const auto& [worker, set] : state.worker_modes()) {
    if (set.mode() == v1::WORKER_QUARANTINED && FromProto(set.until()) <= now) {
      plan->commands.push_back(ReleaseWorker{worker});
    }
  }
}

}  // namespace

Plan MakePlan(const State& state, const Fleet& fleet, const WorkerIndex& workers,
              const LeaseTable& leases, const Options& options, absl::Time now, bool preempts) {
  Plan plan;
  PlanEnds(state, leases, now, &plan);
  PlanTimes(state, now, &plan);
  PlanQuarantines(state, options, now, &plan);
  // Who gets a device, and at whose expense, is asked once all who want one are in the queue.
  if (plan.commands.empty()) {
    for (GrantAttempt& grant : GrantPlanner(state, fleet, workers, options, now).Run()) {
      plan.commands.push_back(std::move(grant));
    }
  }
  if (plan.commands.empty() && preempts) {
    plan.looked_for_victims = options.preemption && !state.queue().empty();
    for (Preempt& preempt : ChoosePreemptions(state, fleet, workers, options, now)) {
      plan.commands.push_back(std::move(preempt));
    }
  }
  return plan;
}

}  // namespace deltaworks::scheduler

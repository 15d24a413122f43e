// Plan: what should happen now, given everything.
//
// From the state, the workers and the deadlines to commands for Decide. A plan is a wish, computed
// from scratch each time: what it names twice is decided once, and what is done already it no
// longer names. Pure function.

#ifndef DELTAWORKS_SCHEDULER_PLAN_H_
#define DELTAWORKS_SCHEDULER_PLAN_H_

#include <vector>

#include "absl/time/time.h"
#include "scheduler/command.h"
#include "scheduler/fleet.h"
#include "scheduler/lease_table.h"
#include "scheduler/options.h"
#include "scheduler/state.h"
#include "scheduler/worker_index.h"

namespace deltaworks::scheduler {

struct Plan {
  // Ends of leases, starts and deadlines that have come, quarantines; if there are none, grants; if
  // there are none, preemptions. What they bring about the next plan sees.
  std::vector<Command> commands;
  // Somebody waits who might preempt.
  bool looked_for_victims = false;
};

// `workers` must be up to date with state and fleet. `preempts`: it may preempt. A plan has a
// bounded number of grants and preemptions: after it is carried out the next goes on.
Plan MakePlan(const State& state, const Fleet& fleet, const WorkerIndex& workers,
              const LeaseTable& leases, const Options& options, absl::Time now, bool preempts);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_PLAN_H_

// Preemption: whom to ask to make room.
//
// A waiting job may take the room of a running one
//   - of a lower class, if it is ahead: by key within a tenant, by fair share between two, or
//   - of another tenant that has more devices than it is guaranteed, if its own has fewer.
// Of all workers where that would make room, the one whose victims are of the lowest class, then
// the fewest, then those that did the least since their last checkpoint. The victims take a
// checkpoint, leave, and lose nothing but their turn; the worker is promised to the waiting job, so
// that nobody else slips in. Nobody is asked before it has had preempt_after of its device. Pure.

#ifndef DELTAWORKS_SCHEDULER_PREEMPTION_H_
#define DELTAWORKS_SCHEDULER_PREEMPTION_H_

#include <vector>

#include "absl/time/time.h"
#include "scheduler/command.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/state.h"
#include "scheduler/worker_index.h"

namespace deltaworks::scheduler {

// For the first waiting job of each tenant and shape, by key. A job to which a worker is promised
// gets no other. To be called when nothing more can be granted.
//
// Bounded: of the first 64 such jobs each looks at no more than 64 workers and chooses among the
// first 16 where it may take anything, all together at no more than 512. What is not come to has
// its turn when those before it are served.
std::vector<Preempt> ChoosePreemptions(const State& state, const Fleet& fleet,
                                       const WorkerIndex& workers, const Options& options,
                                       absl::Time now);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_PREEMPTION_H_

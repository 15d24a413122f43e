// Preemption: whom to ask to make room.
//
// A waiting job may take the worker of a running one if its class is higher AND it is ahead of it
// in the order of the queue. The second condition keeps two jobs from taking the worker from each
// other: once back in the queue the victim stands behind. The victim takes a checkpoint, leaves,
// and loses nothing but its turn. Pure function.

#ifndef DELTAWORKS_SCHEDULER_PREEMPTION_H_
#define DELTAWORKS_SCHEDULER_PREEMPTION_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/state.h"

namespace deltaworks::scheduler {

struct Preemption {
  std::string victim;
  std::string by;
};

// At most one victim for each of the first waiting jobs: of those that may be taken, the one of the
// lowest class, then the one furthest behind in the order. A waiting job for which a worker is
// being cleared already gets none. To be called when nothing more can be granted.
std::vector<Preemption> ChoosePreemptions(const State& state, const Fleet& fleet,
                                          const Options& options, absl::Time now);

// True if a worker that `record` could use is being cleared by a preemption.
bool IsBeingClearedFor(const JobRecord& record, const State& state, const Fleet& fleet,
                       const Options& options, absl::Time now);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_PREEMPTION_H_

// StartHints: what would make a waiting job start sooner, as sentences. Only what would help, as
// things stand. Pure.

#ifndef DELTAWORKS_SCHEDULER_START_HINTS_H_
#define DELTAWORKS_SCHEDULER_START_HINTS_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/estimator.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/state.h"

namespace deltaworks::scheduler {

// Of a job in the queue.
std::vector<std::string> StartHints(const JobRecord& record, const State& state, const Fleet& fleet,
                                    const Estimator& estimator, const Options& options,
                                    absl::Time now);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_START_HINTS_H_

// StartBounds: keeps the start bounds of waiting jobs true.
//
// A bound counts on workers. When fewer could hold a job than its bound counted on, or a bound is
// there to be given for the first time, it is computed again, and told if it is later. The queue is
// gone through again and again, a bounded part at a time. Not stored: it begins anew with each
// process.

#ifndef DELTAWORKS_SCHEDULER_START_BOUNDS_H_
#define DELTAWORKS_SCHEDULER_START_BOUNDS_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/estimator.h"
#include "scheduler/state.h"

namespace deltaworks::scheduler {

class StartBounds {
 public:
  static constexpr int kLookedAtMax = 4'096;
  static constexpr size_t kNamedMax = 256;

  // Jobs that need a new one, among those whose turn it is to be looked at.
  std::vector<std::string> Next(const State& state, const Estimator& estimator, absl::Time now);

 private:
  // Where to go on.
  JobShape shape_;
  QueueKey after_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_START_BOUNDS_H_

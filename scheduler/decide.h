// Decide: from the state and a command to events.
//
// It changes nothing. The caller folds the events into the state at once, stores them, and answers
// whoever asked only after they are stored. An empty decision is an answer too: what was asked is
// so already. Pure: time, randomness and everything else is an argument.

#ifndef DELTAWORKS_SCHEDULER_DECIDE_H_
#define DELTAWORKS_SCHEDULER_DECIDE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/command.h"
#include "scheduler/estimator.h"
#include "scheduler/event.pb.h"
#include "scheduler/fleet.h"
#include "scheduler/job_archive.h"
#include "scheduler/options.h"
#include "scheduler/state.h"

namespace deltaworks::scheduler {

// 64 random bits, unpredictable to others: attempt ids must never come again.
using RandomBits = absl::FunctionRef<uint64_t()>;

struct Decision {
  std::vector<Event> events;
  // The job that a command of a person was about; the answer is this job as it then is.
  std::string job;
};

// What every decision may look at.
struct DecisionContext {
  const State& state;
  JobArchive& archive;
  const Fleet& fleet;
  const Estimator& estimator;
  const Options& options;
  absl::Time now;  // Raised to state.last_time() if it is below.
  RandomBits random;
};

// Errors are answers to whoever asked, as the rpc's paragraph in proto/deltaworks/v1 says; nothing
// was decided. Commands of the platform (reports, answers, plans) have no errors: what is late, or
// about an attempt that is not current, has no events.
absl::StatusOr<Decision> Decide(const Command& command, DecisionContext context);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_DECIDE_H_

// Explain: why a job waits, and where it stands.
//
// Computed for an answer, never stored: it changes with every worker and every other job. A reason
// code for programs and the same as a sentence with the numbers that make it true. Pure.

#ifndef DELTAWORKS_SCHEDULER_EXPLAIN_H_
#define DELTAWORKS_SCHEDULER_EXPLAIN_H_

#include "absl/time/time.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/state.h"

namespace deltaworks::scheduler {

// A view of the queue at one moment, for any number of jobs. Everything passed in must outlive it
// and stay as it is.
class Explainer {
 public:
  Explainer(const State& state, const Fleet& fleet, const Options& options, absl::Time now)
      : state_(state), fleet_(fleet), options_(options), now_(now) {}

  // The job as its owner sees it: as stored, with status.waiting if it is QUEUED.
  v1::Job Show(const JobRecord& record) const;

  // Of a QUEUED job.
  v1::Waiting Explain(const JobRecord& record) const;

 private:
  const State& state_;
  const Fleet& fleet_;
  const Options& options_;
  const absl::Time now_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_EXPLAIN_H_

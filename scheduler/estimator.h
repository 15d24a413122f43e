// Estimator: what a job will take, and when it starts at the latest.
//
// The bound is that of v1::StartBound: a job waits for fair share no longer than until it is
// overdue (queue_order.h, Options::max_overtake); from then on only what is ahead of it by key goes
// first, and C workers are not idle while it waits, so they are through with that in W / C. Jobs
// that train together take less than W, the sum of each alone.
//
// Pure functions of what is passed in, which must outlive it.

#ifndef DELTAWORKS_SCHEDULER_ESTIMATOR_H_
#define DELTAWORKS_SCHEDULER_ESTIMATOR_H_

#include <optional>

#include "absl/time/time.h"
#include "scheduler/fleet.h"
#include "scheduler/job_shape.h"
#include "scheduler/options.h"
#include "scheduler/pass_speed.h"
#include "scheduler/state.h"
#include "scheduler/worker_index.h"

namespace deltaworks::scheduler {

class Estimator {
 public:
  Estimator(const State& state, const Fleet& fleet, const WorkerIndex& workers,
            const Speeds& speeds, const Options& options)
      : state_(state), fleet_(fleet), workers_(workers), speeds_(speeds), options_(options) {}

  // Of the rest of its training; nullopt if no worker is known.
  std::optional<v1::JobEstimate> EstimateOf(const JobRecord& record) const;

  // Of a job that waits or is about to; nullopt if no worker could hold it.
  std::optional<v1::StartBound> BoundOf(const JobRecord& record, absl::Time now) const;

  // Workers that take jobs and could hold it, were they empty.
  int64_t WorkersFor(const JobShape& shape, absl::Time now) const;

  // Of `workers`, those that are busy with what is ahead as long as a job of the shape waits
  // overdue: all but one less than the largest gang that is being gathered.
  int64_t BusyBefore(const JobShape& shape, int64_t workers) const;

  // Device time of all that is ahead of `record` by key or running, and could run where it could.
  double SecondsAhead(const JobRecord& record) const;

 private:
  const State& state_;
  const Fleet& fleet_;
  const WorkerIndex& workers_;
  const Speeds& speeds_;
  const Options& options_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_ESTIMATOR_H_

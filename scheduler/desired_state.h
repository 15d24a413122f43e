// DesiredState: what a worker should hold, as the answer to its report.
//
//   current, no order                     RUN    renewed
//   told to yield (pause, preemption,     YIELD  renewed until the grace is over, then STOP
//   drain)
//   being cancelled, or not current       STOP   not renewed
//   of a job that neither state nor       not named: an empty scheduler stops nobody
//   archive knows
//   granted, but for a whole lease no     not named, so that its lease ends
//   report listed it
//
// Pure functions.

#ifndef DELTAWORKS_SCHEDULER_DESIRED_STATE_H_
#define DELTAWORKS_SCHEDULER_DESIRED_STATE_H_

#include <vector>

#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "scheduler/job_archive.h"
#include "scheduler/lease_table.h"
#include "scheduler/options.h"
#include "scheduler/state.h"

namespace deltaworks::scheduler {

// By job, the attempts of `report` that are not current after those that are.
std::vector<v1::Assignment> DesiredState(const State& state, JobArchive& archive,
                                         const LeaseTable& leases, const v1::SyncRequest& report,
                                         const Options& options, absl::Time now);

// True if an answer with this assignment gives the attempt another lease.
bool IsRenewal(const v1::Assignment& assignment);

// The same while the state cannot be loaded: each reported attempt of the last committed state with
// what it was told then. Nothing is acknowledged.
std::vector<v1::Assignment> LastCommittedState(const LeaseTable& leases,
                                               const v1::SyncRequest& report);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_DESIRED_STATE_H_

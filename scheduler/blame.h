// Blame: what the bad end of an attempt costs the job.
//
//   told to leave            pause, preemption, drain, cancel: nothing, however it left
//   the user's fault         the job fails at once
//   out of memory            alone on its worker: the user's fault, since it fits no empty one;
//                            else it costs nothing and the job runs alone next
//   anything else            a death (worker lost or restarted, platform error, left unasked)
//
// A death costs a retry unless its attempt had made a new checkpoint; a job with no retries left
// fails. Two deaths in a row without a new checkpoint between: it runs alone next. Three in a row
// alone: it is poison and fails. A checkpoint sets the counts of deaths back; nothing lowers a
// job's place in the queue. Pure function.

#ifndef DELTAWORKS_SCHEDULER_BLAME_H_
#define DELTAWORKS_SCHEDULER_BLAME_H_

#include "scheduler/event.pb.h"
#include "scheduler/options.h"

namespace deltaworks::scheduler {

struct Blame {
  bool death = false;
  bool cost_retry = false;
  bool run_alone = false;
  // The job cannot go on; `failure` says why.
  bool job_fails = false;
  v1::Failure failure;
};

// `failure` is what the attempt reported; empty if it said nothing. `told_to_leave`: an order was
// committed, or the worker drains. The record has a current attempt.
Blame JudgeEnd(const JobRecord& record, const v1::Failure& failure, bool told_to_leave,
               const Options& options);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_BLAME_H_

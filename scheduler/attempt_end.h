// EndAttempt: what becomes of a job when its current attempt ends without a result; EndOn, when it
// ends on one of its workers.
//
//   CANCELLING          -> CANCELLED
//   PAUSING             -> PAUSED at the last checkpoint, however the attempt ended; FAILED only
//   for
//                          an error of the user's
//   RUNNING             -> QUEUED with its old place, or FAILED if blame.h says so

#ifndef DELTAWORKS_SCHEDULER_ATTEMPT_END_H_
#define DELTAWORKS_SCHEDULER_ATTEMPT_END_H_

#include <string>

#include "scheduler/event.pb.h"
#include "scheduler/job_draft.h"
#include "scheduler/options.h"

namespace deltaworks::scheduler {

struct AttemptEnd {
  v1::Attempt::End end = v1::Attempt::END_UNSPECIFIED;
  v1::Failure failure;    // As reported; empty if none.
  bool draining = false;  // The worker said that it drains.
};

// Adds the event to `draft`, whose job has a current attempt. Of a gang that was broken before, why
// it was broken counts and not `end`.
void EndAttempt(AttemptEnd end, const Options& options, JobDraft* draft);

// The same for `worker` alone, which holds the attempt: the attempt ends with the last one. If it
// was not told to leave, nor is `done`, the gang is broken: the others are told to stop.
void EndOn(const std::string& worker, const AttemptEnd& end, bool done, const Options& options,
           JobDraft* draft);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_ATTEMPT_END_H_

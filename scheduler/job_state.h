// The states of a job and the legal moves between them; the only place that changes a state.
//
//   VALIDATING -> QUEUED -> RUNNING -> FINALIZING -> SUCCEEDED
//   QUEUED     -> PAUSED, CANCELLED, FAILED
//   RUNNING    -> QUEUED      preempted, drained, worker lost, retry
//   RUNNING    -> PAUSING, CANCELLING, FAILED
//   PAUSING    -> PAUSED      left, or its worker was lost
//   PAUSING    -> FINALIZING  a result beats the pause
//   PAUSING    -> CANCELLING, FAILED
//   PAUSED     -> QUEUED, CANCELLED
//   CANCELLING -> CANCELLED   a result that comes meanwhile is discarded
//   VALIDATING -> CANCELLED, FAILED
//   FINALIZING -> FAILED      only on a durable refusal by the registry
//
// SUCCEEDED, FAILED and CANCELLED are final. Pure functions.

#ifndef DELTAWORKS_SCHEDULER_JOB_STATE_H_
#define DELTAWORKS_SCHEDULER_JOB_STATE_H_

#include "absl/status/status.h"
#include "proto/deltaworks/v1/job.pb.h"

namespace deltaworks::scheduler {

class JobStateMachine {
 public:
  // True if the table above has the move.
  static bool IsLegal(v1::JobState from, v1::JobState to);

  // Moves `job` to `to` and sets reason, message and, if `to` is final, end_time to its
  // update_time. Internal, and nothing changed, if the move is not legal.
  static absl::Status Move(v1::JobState to, v1::JobReason reason, const std::string& message,
                           v1::Job* job);
};

// SUCCEEDED, FAILED or CANCELLED.
bool IsFinal(v1::JobState state);

// True if the job fails at its deadline in this state.
bool MayExpire(v1::JobState state);

// A worker holds, or may hold, the job's lease: RUNNING, PAUSING or CANCELLING.
bool IsOnWorker(v1::JobState state);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_JOB_STATE_H_

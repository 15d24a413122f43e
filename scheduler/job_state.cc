#include "scheduler/job_state.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace deltaworks::scheduler {

bool JobStateMachine::IsLegal(v1::JobState from, v1::JobState to) {
  switch (from) {
    case v1::VALIDATING:
      return to == v1::QUEUED || to == v1::CANCELLED || to == v1::FAILED;
    case v1::QUEUED:
      return to == v1::RUNNING || to == v1::PAUSED || to == v1::CANCELLED || to == v1::FAILED;
    case v1::RUNNING:
      return to == v1::QUEUED || to == v1::PAUSING || to == v1::CANCELLING ||
             to == v1::FINALIZING || to == v1::FAILED;
    case v1::PAUSING:
      return to == v1::PAUSED || to == v1::FINALIZING || to == v1::CANCELLING || to == v1::FAILED;
    case v1::PAUSED:
      return to == v1::QUEUED || to == v1::CANCELLED;
    case v1::CANCELLING:
      return to == v1::CANCELLED;
    case v1::FINALIZING:
      return to == v1::SUCCEEDED || to == v1::FAILED;
    default:
      return false;
  }
}

absl::Status JobStateMachine::Move(v1::JobState to, v1::JobReason reason,
                                   const std::string& message, v1::Job* job) {
  v1::JobStatus& status = *job->mutable_status();
  if (!IsLegal(status.state(), to)) {
    return absl::InternalError(absl::StrCat(job->name(), " cannot move from ",
                                            v1::JobState_Name(status.state()), " to ",
                                            v1::JobState_Name(to)));
  }
  status.set_state(to);
  status.set_reason(reason);
  status.set_message(message);
  if (IsFinal(to)) *job->mutable_end_time() = job->update_time();
  return absl::OkStatus();
}

bool IsFinal(v1::JobState state) {
  return state == v1::SUCCEEDED || state == v1::FAILED || state == v1::CANCELLED;
}

bool MayExpire(v1::JobState state) {
  return state == v1::VALIDATING || state == v1::QUEUED || state == v1::RUNNING ||
         state == v1::PAUSING;
}

bool IsOnWorker(v1::JobState state) {
  return state == v1::RUNNING || state == v1::PAUSING || state == v1::CANCELLING;
}

}  // namespace deltaworks::scheduler

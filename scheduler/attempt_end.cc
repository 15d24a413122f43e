#include "scheduler/attempt_end.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/blame.h"
#include "scheduler/job_record.h"
#include "scheduler/proto_time.h"

namespace deltaworks::scheduler {
namespace {

v1::JobState StateAfter(v1::JobState before, const Blame& blame) {
  if (before == v1::CANCELLING) return v1::CANCELLED;
  if (before == v1::PAUSING) {
    const bool users_fault = blame.job_fails && blame.failure.fault() == v1::Failure::USER;
    return users_fault ? v1::FAILED : v1::PAUSED;
  }
  return blame.job_fails ? v1::FAILED : v1::QUEUED;
}

v1::JobReason ReasonOf(const AttemptEnd& end, const CurrentAttempt& current) {
  switch (end.end) {
    case v1::Attempt::LEASE_ENDED:
      return v1::WORKER_LOST;
    case v1::Attempt::WORKER_RESTARTED:
      return v1::WORKER_RESTARTED;
    case v1::Attempt::FAILED:
      return v1::ATTEMPT_FAILED;
    default:
      break;
  }
  if (current.ordered() != v1::Assignment::DESIRED_UNSPECIFIED) return current.order_reason();
  return end.draining ? v1::DRAINED : v1::WORKER_LEFT;
}

std::string WhatHappened(const AttemptEnd& end, const std::string& worker) {
  switch (end.end) {
    case v1::Attempt::LEASE_ENDED:
      return absl::StrCat(worker, " was lost: its lease ended");
    case v1::Attempt::WORKER_RESTARTED:
      return absl::StrCat(worker, " restarted");
    case v1::Attempt::FAILED:
      return absl::StrCat("the attempt on ", worker, " failed: ", end.failure.code(), ": ",
                          end.failure.message());
    case v1::Attempt::STOPPED:
      return absl::StrCat("stopped on ", worker);
    case v1::Attempt::LEFT_UNASKED:
      return absl::StrCat(worker, " gave the job back unasked");
    default:
      return absl::StrCat(worker, " gave the job back");
  }
}

bool IsStop(const CurrentAttempt& current) { return current.ordered() == v1::Assignment::STOP; }

bool WasTold(const AttemptEnd& end, const CurrentAttempt& current) {
  return current.ordered() != v1::Assignment::DESIRED_UNSPECIFIED || end.draining;
}

std::string Sentence(const std::string& what, v1::JobState after, const Blame& blame,
                     const JobRecord& record) {
  if (after == v1::FAILED) return absl::StrCat(what, "; ", blame.failure.message());
  if (after == v1::CANCELLED) return what;
  const int64_t step = CheckpointStep(record);
  std::string sentence = absl::StrCat(what, "; the job goes on from ",
                                      step == 0 ? "the beginning" : absl::StrCat("step ", step));
  const int32_t retries_max = record.job().retry_policy().max_retries();
  if (blame.cost_retry) {
    absl::StrAppend(&sentence, "; retry ", record.job().status().retries_used() + 1, " of ",
                    retries_max < 0 ? "any number" : absl::StrCat(retries_max));
  }
  if (blame.run_alone) absl::StrAppend(&sentence, "; it runs alone next");
  return sentence;
}

// How long the job waits after an attempt that failed: what is wrong may need a while to pass, and
// an attempt that fails at once must not be granted a hundred times a second.
absl::Duration Backoff(const JobRecord& record, const Options& options) {
  absl::Duration wait = options.retry_backoff_first;
  for (int i = 0; i < record.job().status().deaths_without_checkpoint(); ++i) {
    if (wait >= options.retry_backoff_max) break;
    wait *= 2;
  }
  return std::min(wait, options.retry_backoff_max);
}

}  // namespace

void EndAttempt(AttemptEnd end, const Options& options, JobDraft* draft) {
  const JobRecord& record = draft->record();
  const CurrentAttempt& current = record.current();
  bool told = WasTold(end, current);
  std::string worker = current.worker();
  if (current.has_broken() && end.end != v1::Attempt::STOPPED) {
    end.end = current.broken().end();
    end.failure = current.broken().failure();
    told = current.broken().told();
    worker = current.broken().worker();
  }
  const Blame blame = JudgeEnd(record, end.failure, told, options);
  const v1::JobState after = StateAfter(draft->state(), blame);

  Event event = draft->NewEvent(v1::JobEvent::ATTEMPT_ENDED, after,
                                after == v1::FAILED ? v1::FAILURE : ReasonOf(end, current),
                                Sentence(WhatHappened(end, worker), after, blame, record));
  if (blame.death || after == v1::FAILED) event.mutable_shown()->set_level(v1::JobEvent::WARNING);
  event.mutable_shown()->set_step(CheckpointStep(record));
  AttemptEnded& ended = *event.mutable_attempt_ended();
  ended.set_end(end.end);
  if (!end.failure.code().empty()) *ended.mutable_failure() = end.failure;
  ended.set_cost_retry(blame.cost_retry);
  ended.set_death(blame.death);
  ended.set_run_alone(blame.run_alone);
  if (after == v1::FAILED) *ended.mutable_job_failure() = blame.failure;
  if (after == v1::QUEUED && end.end == v1::Attempt::FAILED && blame.death) {
    *ended.mutable_retry_time() = ToProto(draft->now() + Backoff(record, options));
  }
  draft->Add(std::move(event));
}

void EndOn(const std::string& worker, const AttemptEnd& end, bool done, const Options& options,
           JobDraft* draft) {
  const CurrentAttempt& current = draft->record().current();
  const int holders = HolderCount(current);
  if (holders == 1) return EndAttempt(end, options, draft);
  const bool told = WasTold(end, current);
  // Without one of them the others cannot take a step, nor a checkpoint.
  const bool ordered = current.ordered() != v1::Assignment::DESIRED_UNSPECIFIED;
  const bool breaks = !done && !current.has_broken() &&
                      (!ordered || (end.end != v1::Attempt::LEFT && !IsStop(current)));
  Event event = draft->NewEvent(
      v1::JobEvent::NOTE, draft->state(),
      breaks ? ReasonOf(end, current) : v1::JOB_REASON_UNSPECIFIED,
      absl::StrCat(done ? absl::StrCat(worker, " has done all steps") : WhatHappened(end, worker),
                   "; ", holders - 1, " of ", current.members_size(),
                   breaks ? " are told to stop" : " hold the job"));
  event.mutable_member_left()->set_worker(worker);
  if (breaks) {
    event.mutable_shown()->set_level(v1::JobEvent::WARNING);
    GangBreak& broken = *event.mutable_member_left()->mutable_broken();
    broken.set_worker(worker);
    broken.set_end(end.end);
    if (!end.failure.code().empty()) *broken.mutable_failure() = end.failure;
    broken.set_told(told);
  }
  draft->Add(std::move(event));
}

}  // namespace deltaworks::scheduler

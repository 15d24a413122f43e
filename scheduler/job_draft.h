// JobDraft: the events of one decision about one job.
//
// Several events of a decision build on each other (a checkpoint, then the end of its attempt), but
// a decision changes nothing. So the draft folds each event into a copy of the job as it is added,
// numbers it, and hands out the events at the end. Most reports bring no event: the copy, which is
// dear, is made for the first one.

#ifndef DELTAWORKS_SCHEDULER_JOB_DRAFT_H_
#define DELTAWORKS_SCHEDULER_JOB_DRAFT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/event.pb.h"

namespace deltaworks::scheduler {

class JobDraft {
 public:
  // A decision of the time `now` about `record`; an empty one for a job to be created.
  JobDraft(JobRecord record, absl::Time now) : copy_(std::move(record)), now_(now) {}
  // The same about `*original`, which must outlive the draft. The first Add() copies it: what
  // record() returned before that stays as it is.
  JobDraft(const JobRecord* original, absl::Time now) : original_(original), now_(now) {}

  // The job with all added events folded in.
  const JobRecord& record() const { return copy_.has_value() ? *copy_ : *original_; }
  absl::Time now() const { return now_; }
  v1::JobState state() const { return record().job().status().state(); }

  // An event with time and job filled in. A creating event's job name is that of `record` or must
  // be set by the caller.
  Event NewEvent() const;

  // The same, shown to watchers, with level INFO and the next number. `state` is the job's state
  // after it; lease_epoch is that of the current attempt.
  Event NewEvent(v1::JobEvent::Type type, v1::JobState state, v1::JobReason reason,
                 const std::string& message) const;

  // The next event says so: device time of the current attempt so far.
  void CountDeviceTime(int64_t device_ms) { device_ms_ = device_ms; }
  bool counts_device_time() const { return device_ms_ != 0; }

  // Folds `event` into the draft and keeps it. Dies if it cannot follow: a bug in a decision.
  void Add(Event event);

  std::vector<Event> TakeEvents() { return std::move(events_); }

 private:
  const JobRecord* original_ = nullptr;
  std::optional<JobRecord> copy_;
  const absl::Time now_;
  std::vector<Event> events_;
  int64_t device_ms_ = 0;  // Of the next event; 0: it says nothing.
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_JOB_DRAFT_H_

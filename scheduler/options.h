// Options: every policy setting of the scheduler's core, with its default.
//
// Settings act on decisions only. What was decided stands in the events, so events replay to the
// same state under other settings. Plain data; copied, never changed while a core runs.

#ifndef DELTAWORKS_SCHEDULER_OPTIONS_H_
#define DELTAWORKS_SCHEDULER_OPTIONS_H_

#include <cstdint>

#include "absl/time/time.h"
#include "proto/deltaworks/v1/job.pb.h"

namespace deltaworks::scheduler {

struct Options {
  // A worker's right to run an attempt, from its last answered report.
  absl::Duration lease_duration = absl::Seconds(20);
  // After a start no lease ends before one full lease and this.
  absl::Duration start_grace = absl::Seconds(3);
  // How long an attempt told to YIELD is renewed.
  absl::Duration yield_grace = absl::Seconds(60);
  // Training time between checkpoints, told to the worker.
  absl::Duration checkpoint_interval = absl::Seconds(60);

  // Order of the queue: submit time minus the bonus of the class; LOW has none.
  absl::Duration bonus_high = absl::Hours(4);
  absl::Duration bonus_normal = absl::Hours(1);
  // Tenants take turns by fair share until a job has waited for so long, and the largest bonus
  // longer in its class's favour: from then on the smallest key goes first.
  absl::Duration max_overtake = absl::Hours(24);
  // Device time used counts half after so long.
  absl::Duration fair_share_half_life = absl::Hours(24);
  // What a running attempt counts for at once: see fair_share.h.
  absl::Duration attempt_charge = absl::Minutes(10);
  // A job that ended leaves the state after so long: see job_archive.h.
  absl::Duration archive_after = absl::Minutes(10);
  // Jobs that are not final; more are refused.
  int64_t active_jobs_max = 10'000;

  // HIGH may take the device of a lower class that is behind it in the queue and has had at least
  // preempt_after of it.
  bool preemption = true;
  absl::Duration preempt_after = absl::Seconds(60);
  // Of one device, in the operator's currency; 0: estimates name no cost.
  double device_hour_price = 0;
  // Time between two looks for whom to preempt.
  absl::Duration preemption_interval = absl::Seconds(1);
  // The same, for start bounds that count on workers which are gone.
  absl::Duration start_bounds_interval = absl::Seconds(1);

  // After this many deaths in a row without a new checkpoint the job runs alone.
  int32_t deaths_until_alone = 2;
  // After this many deaths in a row alone it is poison; 0: never.
  int32_t deaths_until_poison = 3;

  // A job whose attempt failed waits so long, twice as long after each further death without a new
  // checkpoint. Nobody takes the worker that is empty soonest while it waits for retry_hold or
  // less: jobs behind it must not overtake it because of a moment's wait.
  absl::Duration retry_backoff_first = absl::Seconds(1);
  absl::Duration retry_backoff_max = absl::Minutes(5);
  absl::Duration retry_hold = absl::Seconds(2);
  // After this many incidents in a row (worker_trouble.h) a worker gets no new job for
  // quarantine_first, twice as long each time, up to quarantine_max; 0: never.
  int32_t incidents_until_quarantine = 3;
  absl::Duration quarantine_first = absl::Minutes(10);
  absl::Duration quarantine_max = absl::Hours(6);

  // ResumePolicy ANY: go on elsewhere when the numerics class was not seen for this long.
  absl::Duration numerics_class_patience = absl::Hours(1);

  // At most one write of metrics and logs per job in this time.
  absl::Duration metrics_interval = absl::Seconds(1);
  // Lines of log kept by job; what follows is dropped, and an event says so.
  int64_t log_lines_max = 10'000;

  // Attempts that one worker holds at a time; 1: nobody trains together.
  int64_t attempts_per_worker = 32;
  // A job may want less company than this, never more.
  v1::Placement::Cohort cohort_floor = v1::Placement::COHORT_ANY;
  // See worker_load.h.
  double cohort_gain_min = 1.05;
  double cohort_slowdown_max = 8;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_OPTIONS_H_

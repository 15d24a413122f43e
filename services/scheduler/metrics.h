// Every metric of the scheduler, with its unit and help. Thread-safe.
//
// What happened to jobs is counted from committed events (CountCommitted), so that the counters
// agree with the totals that the jobs themselves show.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_METRICS_H_
#define DELTAWORKS_SERVICES_SCHEDULER_METRICS_H_

#include <array>
#include <string>

#include "scheduler/event.pb.h"
#include "scheduler/state.h"
#include "services/base/metrics.h"

namespace deltaworks::services {

struct SchedulerMetrics {
  explicit SchedulerMetrics(Metrics& metrics);

  // Jobs and attempts.
  prometheus::Counter& JobsEnded(v1::JobState state);
  prometheus::Counter& AttemptsEnded(v1::Attempt::End end);
  prometheus::Counter& jobs_created;
  prometheus::Counter& attempts_granted;
  prometheus::Counter& retries;
  prometheus::Counter& preemptions;
  prometheus::Counter& checkpoints;
  prometheus::Counter& metric_points;
  prometheus::Counter& alerts;
  prometheus::Histogram& queue_seconds;
  // `estimate`: device_time, start, end.
  prometheus::Histogram& EstimateRatio(const std::string& estimate);

  // Workers and Syncs.
  prometheus::Gauge& workers_online;
  prometheus::Gauge& workers_quarantined;
  prometheus::Gauge& syncs_held;
  prometheus::Counter& syncs_answered;

  // The event store.
  prometheus::Gauge& loaded;
  prometheus::Counter& events_committed;
  prometheus::Histogram& commit_seconds;
  prometheus::Counter& commit_failures;
  prometheus::Gauge& log_events;
  prometheus::Histogram& snapshot_seconds;
  prometheus::Counter& snapshot_failures;

  // Watches, and what was refused at a bound.
  prometheus::Gauge& watches;
  prometheus::Counter& watches_cut_off;
  prometheus::Counter& Refused(const std::string& limit);

  // Questions to store and registry.
  prometheus::Counter& Asks(const std::string& what, const std::string& outcome);
  prometheus::Counter& pins_dropped;
  prometheus::Counter& pins_made;
  prometheus::Counter& pin_failures;

 private:
  friend void CountJobs(const scheduler::State& state, SchedulerMetrics& metrics);

  Metrics& metrics_;
  // Jobs by state; null for final states.
  std::array<prometheus::Gauge*, v1::JobState_ARRAYSIZE> jobs_ = {};
};

// Counts what a committed event tells.
void CountCommitted(const scheduler::Event& event, const scheduler::State& state,
                    SchedulerMetrics& metrics);

// Sets the gauges of jobs by state.
void CountJobs(const scheduler::State& state, SchedulerMetrics& metrics);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_METRICS_H_

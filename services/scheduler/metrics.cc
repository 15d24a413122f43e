#include "services/scheduler/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include "absl/strings/ascii.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/proto_time.h"

namespace deltaworks::services {
namespace {

constexpr v1::JobState kActiveStates[] = {v1::VALIDATING, v1::QUEUED, v1::RUNNING,
                                          v1::PAUSING,    v1::PAUSED, v1::CANCELLING,
                                          v1::FINALIZING};

// One second to a week.
const std::vector<double>& QueueSeconds() {
  static const auto* const bounds = new std::vector<double>{
      1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600, 168 * 3600};
  return *bounds;
}

// A tenth to ten times what was said.
const std::vector<double>& EstimateRatios() {
  static const auto* const bounds =
      new std::vector<double>{0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 10};
  return *bounds;
}

}  // namespace

SchedulerMetrics::SchedulerMetrics(Metrics& metrics)
    : jobs_created(metrics.Counter("deltaworks_scheduler_jobs_created_total", "Jobs accepted.")),
      attempts_granted(metrics.Counter("deltaworks_scheduler_attempts_granted_total",
                                       "Attempts granted to workers.")),
      retries(metrics.Counter("deltaworks_scheduler_retries_total",
                              "Ends of attempts that cost their job a retry.")),
      preemptions(metrics.Counter("deltaworks_scheduler_preemptions_total",
                                  "Attempts told to make room for a higher class.")),
      checkpoints(
          metrics.Counter("deltaworks_scheduler_checkpoints_total", "Checkpoints committed.")),
      metric_points(metrics.Counter("deltaworks_scheduler_metric_points_total",
                                    "Metric points of jobs recorded.")),
      alerts(metrics.Counter("deltaworks_scheduler_alerts_total",
                             "Events of level ALERT: an operator should look.")),
      queue_seconds(metrics.Histogram("deltaworks_scheduler_queue_duration_seconds",
                                      "From a job's acceptance to its first attempt.",
                                      QueueSeconds())),
      workers_online(metrics.Gauge("deltaworks_scheduler_workers_online",
                                   "Workers that reported within the last lease.")),
      workers_quarantined(metrics.Gauge("deltaworks_scheduler_workers_quarantined",
                                        "Workers that get no job because attempts died there.")),
      syncs_held(metrics.Gauge("deltaworks_scheduler_syncs_held",
                               "Reports of workers that wait for news.")),
      syncs_answered(
          metrics.Counter("deltaworks_scheduler_syncs_answered_total", "Reports answered.")),
      loaded(metrics.Gauge("deltaworks_scheduler_loaded",
                           "1 while changes are accepted, 0 after an error of the database.")),
      events_committed(metrics.Counter("deltaworks_scheduler_events_committed_total",
                                       "Events stored, by this process.")),
      commit_seconds(metrics.Histogram("deltaworks_scheduler_commit_duration_seconds",
                                       "Time to store the events of one turn.",
                                       Metrics::LatencySeconds())),
      commit_failures(metrics.Counter("deltaworks_scheduler_commit_failures_total",
                                      "Commits that failed or whose outcome was unknown.")),
      log_events(metrics.Gauge("deltaworks_scheduler_log_events",
                               "Events that a start would replay on the snapshot.")),
      snapshot_seconds(metrics.Histogram("deltaworks_scheduler_snapshot_duration_seconds",
                                         "Time to write a snapshot.", Metrics::LatencySeconds())),
      snapshot_failures(metrics.Counter("deltaworks_scheduler_snapshot_failures_total",
                                        "Snapshots that could not be written.")),
      watches(
          metrics.Gauge("deltaworks_scheduler_watches", "Open WatchJob and WatchJobs streams.")),
      watches_cut_off(metrics.Counter("deltaworks_scheduler_watches_cut_off_total",
                                      "Watches ended because their client was too slow.")),
      pins_dropped(metrics.Counter("deltaworks_scheduler_pins_dropped_total",
                                   "Pins of jobs in the store that were no longer needed.")),
      pins_made(metrics.Counter("deltaworks_scheduler_pins_made_total",
                                "Pins of what jobs need that were missing in the store.")),
      pin_failures(metrics.Counter("deltaworks_scheduler_pin_failures_total",
                                   "Calls to the store about pins of jobs that failed.")),
      metrics_(metrics) {
  // Present from the start, so that rates are right from the first increment on.
  for (v1::JobState state : kActiveStates) {
    jobs_[state] = &metrics.Gauge("deltaworks_scheduler_jobs", "Jobs that are not final, by state.",
                                  {{"state", absl::AsciiStrToLower(v1::JobState_Name(state))}});
  }
  for (v1::JobState state : {v1::SUCCEEDED, v1::FAILED, v1::CANCELLED}) JobsEnded(state);
  for (int end = v1::Attempt::COMPLETED; end <= v1::Attempt::End_MAX; ++end) {
    AttemptsEnded(static_cast<v1::Attempt::End>(end));
  }
  for (const char* estimate : {"device_time", "start", "end"}) EstimateRatio(estimate);
}

prometheus::Counter& SchedulerMetrics::JobsEnded(v1::JobState state) {
  return metrics_.Counter("deltaworks_scheduler_jobs_ended_total",
                          "Jobs that came to their end, by their final state.",
                          {{"state", absl::AsciiStrToLower(v1::JobState_Name(state))}});
}

prometheus::Counter& SchedulerMetrics::AttemptsEnded(v1::Attempt::End end) {
  return metrics_.Counter("deltaworks_scheduler_attempts_ended_total",
                          "Attempts that ended, and with them their lease, by how.",
                          {{"end", absl::AsciiStrToLower(v1::Attempt::End_Name(end))}});
}

prometheus::Histogram& SchedulerMetrics::EstimateRatio(const std::string& estimate) {
  return metrics_.Histogram("deltaworks_scheduler_estimate_ratio",
                            "What came over what was estimated before, by estimate.",
                            EstimateRatios(), {{"estimate", estimate}});
}

prometheus::Counter& SchedulerMetrics::Refused(const std::string& limit) {
  return metrics_.Counter("deltaworks_scheduler_refused_total",
                          "Calls refused because a bound was reached, by bound.",
                          {{"limit", limit}});
}

prometheus::Counter& SchedulerMetrics::Asks(const std::string& what, const std::string& outcome) {
  return metrics_.Counter("deltaworks_scheduler_asks_total",
                          "Questions to store and registry, by rpc and outcome.",
                          {{"rpc", what}, {"outcome", outcome}});
}

void CountCommitted(const scheduler::Event& event, const scheduler::State& state,
                    SchedulerMetrics& metrics) {
  metrics.events_committed.Increment();
  if (event.has_shown()) {
    if (event.shown().level() == v1::JobEvent::ALERT) metrics.alerts.Increment();
    if (scheduler::IsFinal(event.shown().state())) {
      metrics.JobsEnded(event.shown().state()).Increment();
    }
  }
  switch (event.kind_case()) {
    case scheduler::Event::kJobCreated:
      metrics.jobs_created.Increment();
      break;
    case scheduler::Event::kAttemptGranted: {
      metrics.attempts_granted.Increment();
      if (event.attempt_granted().attempt().lease_epoch() > 1) break;
      const scheduler::JobRecord* record = state.FindJob(event.job());
      if (record == nullptr) break;
      metrics.queue_seconds.Observe(absl::ToDoubleSeconds(
          scheduler::FromProto(event.time()) - scheduler::FromProto(record->job().create_time())));
      break;
    }
    case scheduler::Event::kAttemptOrdered:
      if (event.shown().reason() == v1::PREEMPTED) metrics.preemptions.Increment();
      break;
    case scheduler::Event::kAttemptEnded:
      metrics.AttemptsEnded(event.attempt_ended().end()).Increment();
      if (event.attempt_ended().cost_retry()) metrics.retries.Increment();
      break;
    case scheduler::Event::kResultAccepted:
      metrics.AttemptsEnded(v1::Attempt::COMPLETED).Increment();
      break;
    case scheduler::Event::kCheckpointCommitted:
      metrics.checkpoints.Increment();
      break;
    case scheduler::Event::kMetricsRecorded:
      metrics.metric_points.Increment(event.metrics_recorded().points_size());
      break;
    default:
      break;
  }
}

void CountJobs(const scheduler::State& state, SchedulerMetrics& metrics) {
  int64_t quarantined = 0;
  for (const auto& [worker, set] : state.worker_modes()) {
    quarantined += set.mode() == v1::WORKER_QUARANTINED ? 1 : 0;
  }
  metrics.workers_quarantined.Set(static_cast<double>(quarantined));
  int64_t on_worker = 0;
  int64_t by_state[v1::JobState_ARRAYSIZE] = {};
  for (const auto& [worker, jobs] : state.jobs_by_worker()) {
    for (const std::string& job : jobs) {
      ++by_state[scheduler::StateOf(*state.FindJob(job))];
      ++on_worker;
    }
  }
  by_state[v1::VALIDATING] = static_cast<int64_t>(state.validating().size());
  by_state[v1::QUEUED] = state.queue().size() + static_cast<int64_t>(state.waits_until().size());
  by_state[v1::FINALIZING] = static_cast<int64_t>(state.finalizing().size());
  // What is active and nowhere else.
  by_state[v1::PAUSED] = state.active_jobs() - on_worker - by_state[v1::VALIDATING] -
                         by_state[v1::QUEUED] - by_state[v1::FINALIZING];
  for (v1::JobState s : kActiveStates) metrics.jobs_[s]->Set(static_cast<double>(by_state[s]));
}

}  // namespace deltaworks::services

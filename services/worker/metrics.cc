#include "services/worker/metrics.h"

namespace deltaworks::services {

WorkerMetrics::WorkerMetrics(Metrics& metrics)
    : syncs_answered(metrics.Counter("deltaworks_worker_syncs_answered_total",
                                     "Syncs that the scheduler answered")),
      syncs_failed(metrics.Counter("deltaworks_worker_syncs_failed_total",
                                   "Syncs that ended with an error, those given up not counted")),
      leases_lapsed(metrics.Counter("deltaworks_worker_leases_lapsed_total",
                                    "Leases that ended without a renewal")),
      attempts(metrics.Gauge("deltaworks_worker_attempts",
                             "Attempts of which the worker holds anything")),
      report_points_dropped(metrics.Counter(
          "deltaworks_worker_report_points_dropped_total",
          "Metric points and log lines dropped because too many waited to be acknowledged")),
      steps(metrics.Counter("deltaworks_worker_steps_total", "Optimiser steps of all jobs")),
      tokens(metrics.Counter("deltaworks_worker_trained_tokens_total",
                             "Tokens of those steps, repeated steps included")),
      runs_finished(metrics.Counter("deltaworks_worker_runs_finished_total",
                                    "Runs that did all their steps")),
      runs_failed(metrics.Counter("deltaworks_worker_runs_failed_total", "Runs that failed")),
      pass_seconds(metrics.Histogram("deltaworks_worker_pass_seconds",
                                     "One turn over at most one micro-batch of each job",
                                     Metrics::LatencySeconds())),
      cohort_runs(metrics.Gauge("deltaworks_worker_cohort_runs", "Runs in the last pass")),
      checkpoints_published(metrics.Counter("deltaworks_worker_checkpoints_published_total",
                                            "Checkpoints that the store has whole and pinned")),
      publish_failures(
          metrics.Counter("deltaworks_worker_publish_failures_total",
                          "Failed tries to bring a checkpoint or result to the store")),
      bytes_published(metrics.Counter("deltaworks_worker_published_bytes_total",
                                      "Bytes of checkpoints and results brought to the store")) {}

}  // namespace deltaworks::services

// The worker's metrics: every name, unit and help text.

#ifndef DELTAWORKS_SERVICES_WORKER_METRICS_H_
#define DELTAWORKS_SERVICES_WORKER_METRICS_H_

#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "services/base/metrics.h"

namespace deltaworks::services {

struct WorkerMetrics {
  explicit WorkerMetrics(Metrics& metrics);

  // The conversation with the scheduler.
  prometheus::Counter& syncs_answered;
  prometheus::Counter& syncs_failed;
  prometheus::Counter& leases_lapsed;
  prometheus::Gauge& attempts;
  prometheus::Counter& report_points_dropped;

  // Training.
  prometheus::Counter& steps;
  prometheus::Counter& tokens;
  prometheus::Counter& runs_finished;
  prometheus::Counter& runs_failed;
  prometheus::Histogram& pass_seconds;
  prometheus::Gauge& cohort_runs;

  // The store.
  prometheus::Counter& checkpoints_published;
  prometheus::Counter& publish_failures;
  prometheus::Counter& bytes_published;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_METRICS_H_

// The metrics of the store: every name, unit and help text in metrics.cc. Those of rpcs are counted
// by services/base. Thread-safe.

#ifndef DELTAWORKS_SERVICES_STORE_METRICS_H_
#define DELTAWORKS_SERVICES_STORE_METRICS_H_

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace deltaworks::services {

class Metrics;

struct StoreMetrics {
  // `metrics` must outlive this.
  explicit StoreMetrics(Metrics& metrics);

  prometheus::Counter& upload_bytes;
  prometheus::Counter& uploads_finished;
  prometheus::Counter& uploads_refused;  // Wrong digest.
  prometheus::Counter& uploads_expired;
  prometheus::Counter& read_bytes;
  prometheus::Counter& blobs_damaged;
  prometheus::Counter& blobs_collected;
  prometheus::Counter& limits_reached;  // RESOURCE_EXHAUSTED by a limit or the disk.
  prometheus::Counter& imports_ready;
  prometheus::Counter& imports_failed;
  prometheus::Histogram& collection_seconds;
  prometheus::Gauge& blobs;
  prometheus::Gauge& blob_bytes;
  prometheus::Gauge& uploads_open;
  prometheus::Gauge& pins;
  prometheus::Gauge& available_bytes;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_METRICS_H_

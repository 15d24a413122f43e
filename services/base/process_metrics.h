// ProcessMetrics: what Prometheus' client libraries tell of every process, from /proc/self.
//
//   process_cpu_seconds_total, process_resident_memory_bytes, process_virtual_memory_bytes,
//   process_open_fds, process_start_time_seconds
//
// A value that cannot be read is left out. Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_PROCESS_METRICS_H_
#define DELTAWORKS_SERVICES_BASE_PROCESS_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <vector>

namespace deltaworks::services {

class ProcessMetrics final : public prometheus::Collectable {
 public:
  ProcessMetrics();
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const double start_time_seconds_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_PROCESS_METRICS_H_

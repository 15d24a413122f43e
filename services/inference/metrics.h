// Every metric of inference, with its unit and help. Thread-safe.

#ifndef DELTAWORKS_SERVICES_INFERENCE_METRICS_H_
#define DELTAWORKS_SERVICES_INFERENCE_METRICS_H_

#include "services/base/metrics.h"

namespace deltaworks::services {

class InferenceMetrics {
 public:
  // `metrics` must outlive it.
  explicit InferenceMetrics(Metrics& metrics);

  prometheus::Counter& prompt_tokens;
  prometheus::Counter& generated_tokens;
  prometheus::Counter& scored_tokens;

  prometheus::Gauge& queue_length;
  prometheus::Gauge& streams_active;
  prometheus::Histogram& queue_seconds;
  prometheus::Histogram& switch_seconds;
  prometheus::Histogram& first_token_seconds;
  prometheus::Histogram& decode_tokens_per_second;

  // What is in memory, in bytes, and how often something was brought there or dropped.
  prometheus::Gauge& base_bytes;
  prometheus::Gauge& adapter_bytes;
  prometheus::Gauge& merged_bytes;
  prometheus::Counter& base_loads;
  prometheus::Counter& adapter_loads;
  prometheus::Counter& merged_loads;
  prometheus::Counter& evictions;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_METRICS_H_

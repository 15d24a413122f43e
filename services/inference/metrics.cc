#include "services/inference/metrics.h"

#include <string>

namespace deltaworks::services {
namespace {

prometheus::Counter& Tokens(Metrics& metrics, const std::string& kind) {
  return metrics.Counter("deltaworks_inference_tokens_total",
                         "Tokens read as prompts, generated, or scored.", {{"kind", kind}});
}

prometheus::Gauge& LoadedBytes(Metrics& metrics, const std::string& kind) {
  return metrics.Gauge("deltaworks_inference_loaded_bytes",
                       "Memory of loaded models; of a base: its mapped weights.", {{"kind", kind}});
}

prometheus::Counter& Loads(Metrics& metrics, const std::string& kind) {
  return metrics.Counter("deltaworks_inference_loads_total", "Models brought into memory.",
                         {{"kind", kind}});
}

}  // namespace

InferenceMetrics::InferenceMetrics(Metrics& metrics)
    : prompt_tokens(Tokens(metrics, "prompt")),
      generated_tokens(Tokens(metrics, "generated")),
      scored_tokens(Tokens(metrics, "scored")),
      queue_length(metrics.Gauge("deltaworks_inference_queue_length",
                                 "Requests that wait for a place, and Scores that are not done.")),
      streams_active(metrics.Gauge("deltaworks_inference_streams_active",
                                   "Generate calls that have a place.")),
      queue_seconds(metrics.Histogram("deltaworks_inference_queue_duration_seconds",
                                      "Time from a loaded model to a place for the stream.",
                                      Metrics::LatencySeconds())),
      switch_seconds(metrics.Histogram("deltaworks_inference_switch_duration_seconds",
                                       "Time to make a request's model ready.",
                                       Metrics::LatencySeconds())),
      first_token_seconds(metrics.Histogram("deltaworks_inference_first_token_duration_seconds",
                                            "Time from the request to its first token.",
                                            Metrics::LatencySeconds())),
      decode_tokens_per_second(metrics.Histogram("deltaworks_inference_decode_tokens_per_second",
                                                 "Of one stream, after its first token.",
                                                 {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000})),
      base_bytes(LoadedBytes(metrics, "base")),
      adapter_bytes(LoadedBytes(metrics, "adapter")),
      merged_bytes(LoadedBytes(metrics, "merged")),
      base_loads(Loads(metrics, "base")),
      adapter_loads(Loads(metrics, "adapter")),
      merged_loads(Loads(metrics, "merged")),
      evictions(metrics.Counter("deltaworks_inference_evictions_total",
                                "Loaded models dropped to make room for another.")) {}

}  // namespace deltaworks::services

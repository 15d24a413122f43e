// Every metric of the registry, with its unit and help. Thread-safe.

#ifndef DELTAWORKS_SERVICES_REGISTRY_METRICS_H_
#define DELTAWORKS_SERVICES_REGISTRY_METRICS_H_

#include "services/base/metrics.h"

namespace deltaworks::services {

struct RegistryMetrics {
  explicit RegistryMetrics(Metrics& metrics);

  // Answers of CreateVersion by outcome.
  prometheus::Counter& versions_ready;
  prometheus::Counter& versions_rejected;
  prometheus::Counter& versions_repeated;
  prometheus::Counter& versions_missing_blobs;
  // Another manifest for the same source: somebody should look.
  prometheus::Counter& source_conflicts;

  prometheus::Histogram& check_seconds;
  prometheus::Counter& damaged_reads;
  prometheus::Counter& download_bytes;

  // What the daily comparison with the store's pins found.
  prometheus::Counter& pins_made;
  prometheus::Counter& pins_dropped;
  prometheus::Counter& maintenance_failures;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_METRICS_H_

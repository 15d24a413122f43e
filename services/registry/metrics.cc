#include "services/registry/metrics.h"

#include <string>

namespace deltaworks::services {
namespace {

prometheus::Counter& Versions(Metrics& metrics, const std::string& outcome) {
  return metrics.Counter("deltaworks_registry_versions_total",
                         "Answers of CreateVersion that were reached, by outcome.",
                         {{"outcome", outcome}});
}

prometheus::Counter& Pins(Metrics& metrics, const std::string& action) {
  return metrics.Counter("deltaworks_registry_pins_reconciled_total",
                         "Pins made or dropped because they differed from the versions.",
                         {{"action", action}});
}

}  // namespace

RegistryMetrics::RegistryMetrics(Metrics& metrics)
    : versions_ready(Versions(metrics, "ready")),
      versions_rejected(Versions(metrics, "rejected")),
      versions_repeated(Versions(metrics, "repeated")),
      versions_missing_blobs(Versions(metrics, "missing_blobs")),
      source_conflicts(Versions(metrics, "conflict")),
      check_seconds(metrics.Histogram("deltaworks_registry_check_duration_seconds",
                                      "Time to read and check all blobs of one version.",
                                      Metrics::LatencySeconds())),
      damaged_reads(metrics.Counter("deltaworks_registry_damaged_reads_total",
                                    "Reads from the store whose bytes did not have their digest.")),
      download_bytes(metrics.Counter("deltaworks_registry_download_bytes_total",
                                     "Bytes of adapters sent by DownloadVersion.")),
      pins_made(Pins(metrics, "made")),
      pins_dropped(Pins(metrics, "dropped")),
      maintenance_failures(
          metrics.Counter("deltaworks_registry_maintenance_failures_total",
                          "Daily comparisons with the store that did not come to their end.")) {}

}  // namespace deltaworks::services

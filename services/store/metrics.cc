#include "services/store/metrics.h"

#include "services/base/metrics.h"

namespace deltaworks::services {

StoreMetrics::StoreMetrics(Metrics& metrics)
    : upload_bytes(metrics.Counter("deltaworks_store_upload_bytes_total",
                                   "Bytes of blobs that came in by upload.")),
      uploads_finished(metrics.Counter("deltaworks_store_uploads_finished_total",
                                       "Uploads that became a blob.")),
      uploads_refused(metrics.Counter("deltaworks_store_uploads_refused_total",
                                      "Uploads dropped because their digest differs.")),
      uploads_expired(metrics.Counter("deltaworks_store_uploads_expired_total",
                                      "Uploads dropped because no data came for their lifetime.")),
      read_bytes(
          metrics.Counter("deltaworks_store_read_bytes_total", "Bytes of blobs that were read.")),
      blobs_damaged(
          metrics.Counter("deltaworks_store_blobs_damaged_total", "Blobs found damaged on disk.")),
      blobs_collected(metrics.Counter("deltaworks_store_blobs_collected_total",
                                      "Objects removed because nobody needed them.")),
      limits_reached(metrics.Counter("deltaworks_store_limits_reached_total",
                                     "Requests refused by a limit or a full disk.")),
      imports_ready(metrics.Counter("deltaworks_store_imports_total",
                                    "Imports of base models that ended, by result.",
                                    {{"result", "ready"}})),
      imports_failed(metrics.Counter("deltaworks_store_imports_total",
                                     "Imports of base models that ended, by result.",
                                     {{"result", "failed"}})),
      collection_seconds(metrics.Histogram("deltaworks_store_collection_duration_seconds",
                                           "Time of one collection.", Metrics::LatencySeconds())),
      blobs(metrics.Gauge("deltaworks_store_blobs", "Blobs that exist.")),
      blob_bytes(metrics.Gauge("deltaworks_store_blob_bytes", "Bytes of all blobs.")),
      uploads_open(metrics.Gauge("deltaworks_store_uploads_open", "Uploads under way.")),
      pins(metrics.Gauge("deltaworks_store_pins", "Pins of all owners.")),
      available_bytes(
          metrics.Gauge("deltaworks_store_available_bytes", "Bytes that still fit on the disk.")) {}

}  // namespace deltaworks::services

// Collector: takes away what nobody needs, now and then, on an event loop.
//
// One round: uploads whose time is up are dropped; objects that nobody references become DELETING
// in one transaction, and count as absent from then on; then the objects go, then their rows. A
// crash anywhere leaves rows in DELETING, which the next round finds. At most `batch` of each kind
// per round; a full round is followed by the next at once.
//
// The loop is the collector's own: rounds touch the disk. Rounds and Start() run on it; Reconcile()
// before anything else does. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_STORE_COLLECTOR_H_
#define DELTAWORKS_SERVICES_STORE_COLLECTOR_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/base/event_loop.h"
#include "services/store/blobs.h"
#include "services/store/uploads.h"

namespace deltaworks::services {

class Collector {
 public:
  struct Options {
    absl::Duration interval = absl::Minutes(1);
    int64_t batch = 1000;
  };

  // All must outlive this, and the loop must end first.
  Collector(EventLoop& loop, BlobStore& store, StoreMetadata& metadata, Uploads& uploads,
            const Clock& clock, StoreMetrics& metrics, const Options& options)
      : loop_(loop),
        store_(store),
        metadata_(metadata),
        uploads_(uploads),
        clock_(clock),
        metrics_(metrics),
        options_(options) {}

  // After a crash: objects under way become DELETING; objects and staged bytes without a row are
  // removed.
  absl::Status Reconcile();

  // Begins the rounds.
  void Start();

  // One round. True if there may be more to take.
  absl::StatusOr<bool> RunOnce();

 private:
  void Round();
  absl::Status UpdateTotals();

  EventLoop& loop_;
  BlobStore& store_;
  StoreMetadata& metadata_;
  Uploads& uploads_;
  const Clock& clock_;
  StoreMetrics& metrics_;
  const Options options_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_COLLECTOR_H_

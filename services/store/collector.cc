#include "services/store/collector.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "services/store/metrics.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {

absl::Status Collector::Reconcile() {
  DW_RETURN_IF_ERROR(metadata_.AbandonPending());
  DW_ASSIGN_OR_RETURN(const std::vector<ObjectKey> keys, store_.List());
  for (const ObjectKey& key : keys) {
    DW_ASSIGN_OR_RETURN(const bool known, metadata_.KnowsObject(key));
    if (known) continue;
    LogWarning("removing an object that nobody knows", {{"digest", key.digest}});
    DW_RETURN_IF_ERROR(store_.Remove(key));
  }
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> names, metadata_.UploadNames());
  absl::flat_hash_set<std::string> known;
  for (const std::string& name : names) known.insert(name.substr(name.rfind('/') + 1));
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> staged, store_.ListStaged());
  for (const std::string& id : staged) {
    if (!known.contains(id)) DW_RETURN_IF_ERROR(store_.DropStaged(id));
  }
  return UpdateTotals();
}

void Collector::Start() {
  loop_.PostAfter(options_.interval, [this] { Round(); });
}

void Collector::Round() {
  const absl::StatusOr<bool> more = RunOnce();
  if (!more.ok()) LogError("collection failed; tried again later", {{"error", more.status()}});
  const bool at_once = more.ok() && *more;
  loop_.PostAfter(at_once ? absl::ZeroDuration() : options_.interval, [this] { Round(); });
}

absl::StatusOr<bool> Collector::RunOnce() {
  const absl::Duration start = clock_.Monotonic();
  DW_RETURN_IF_ERROR(uploads_.DropExpired(options_.batch));
  DW_RETURN_IF_ERROR(metadata_.MarkUnreferenced(clock_.Now(), options_.batch).status());
  DW_ASSIGN_OR_RETURN(const std::vector<ObjectKey> keys, metadata_.DeletingObjects(options_.batch));
  std::vector<ObjectKey> removed;
  for (const ObjectKey& key : keys) {
    // One that cannot be removed is tried again in the next round; the others are not kept for it.
    if (const absl::Status status = store_.Remove(key); !status.ok()) {
      LogError("an object cannot be removed", {{"digest", key.digest}, {"error", status}});
      continue;
    }
    removed.push_back(key);
    metrics_.blobs_collected.Increment();
  }
  if (!removed.empty()) DW_RETURN_IF_ERROR(metadata_.ForgetObjects(removed));
  DW_RETURN_IF_ERROR(UpdateTotals());
  metrics_.collection_seconds.Observe(absl::ToDoubleSeconds(clock_.Monotonic() - start));
  return static_cast<int64_t>(removed.size()) >= options_.batch;
}

absl::Status Collector::UpdateTotals() {
  DW_ASSIGN_OR_RETURN(const StoreMetadata::Totals totals, metadata_.CountTotals());
  metrics_.blobs.Set(static_cast<double>(totals.objects));
  metrics_.blob_bytes.Set(static_cast<double>(totals.bytes));
  metrics_.uploads_open.Set(static_cast<double>(totals.uploads));
  metrics_.pins.Set(static_cast<double>(totals.pins));
  DW_ASSIGN_OR_RETURN(const int64_t available, store_.AvailableBytes());
  metrics_.available_bytes.Set(static_cast<double>(available));
  return absl::OkStatus();
}

}  // namespace deltaworks::services

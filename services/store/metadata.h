// StoreMetadata: what the store knows about its bytes: which exist, who may see them, who needs
// them, and the datasets and base models made of them.
//
// An object's life:
//
//   PENDING ----> PRESENT ----> DELETING ----> (row gone)
//      |  promoted    ^  |  nobody needs it,        object removed
//      |              |  |  or found damaged
//      +--------------+--+----> DELETING            another upload was faster, or a crash
//
// At most one object of a digest is PRESENT, and only that one exists for anybody. A blob is
// *referenced* by a tenant through a hold (24 hours, from an upload or an "is it there"), a pin of
// an owner of the tenant, or such a pin of a manifest that names it. Nothing else gives the right
// to read, and what no tenant references is collected.
//
// Every call is one transaction: it happened durably or not at all. Time is an argument. Errors:
// NotFound, AlreadyExists as each call says; ResourceExhausted (disk full), FailedPrecondition
// (read-only), DataLoss, Internal from the database. Thread-safe.
//
//   SqliteStoreMetadata   sqlite_metadata.h; every implementation passes metadata_contract_test.h

#ifndef DELTAWORKS_SERVICES_STORE_METADATA_H_
#define DELTAWORKS_SERVICES_STORE_METADATA_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "services/store/blob_store.h"

namespace google::protobuf {
class Message;
}

namespace deltaworks::services {

inline constexpr absl::Duration kHoldDuration = absl::Hours(24);

struct UploadRow {
  std::string name;
  std::string tenant;
  std::string digest;
  int64_t size = 0;
  int64_t committed = 0;
  absl::Time expire_time;
};

struct ObjectRow {
  ObjectKey key;
  int64_t size = 0;
};

struct PinRow {
  std::string owner;
  std::string digest;
  absl::Time create_time;
};

// A dataset or base model. `message` is its resource as stored, `detail` what only the store needs.
struct ResourceRow {
  int64_t seq = 0;  // Grows with every resource; the newest is largest.
  std::string name;
  std::string message;
  std::string detail;
  bool pending = false;  // Work on it goes on after a restart.
};

// A request to remember in the same transaction (request_log.h).
using RequestMessage = google::protobuf::Message;

class StoreMetadata {
 public:
  virtual ~StoreMetadata() = default;

  // ---- Requests ----

  // The resource that this request made before; nullopt: it is new. AlreadyExists: another request
  // under the id.
  virtual absl::StatusOr<std::optional<std::string>> FindRequest(absl::string_view tenant,
                                                                 absl::string_view rpc,
                                                                 const RequestMessage& request) = 0;
  // For requests that change nothing else here. A `resource` that is no resource's name, but some
  // answer, is kept for 7 days.
  virtual absl::Status RecordRequest(absl::string_view tenant, absl::string_view rpc,
                                     const RequestMessage& request, absl::string_view resource,
                                     absl::Time now) = 0;

  // ---- Uploads ----

  // The upload of (tenant, digest), made if it is new; lives for `lifetime` from now.
  // ResourceExhausted: `open_max` of the tenant lack bytes; names the flag uploads_open_max.
  virtual absl::StatusOr<UploadRow> BeginUpload(absl::string_view tenant, absl::string_view digest,
                                                int64_t size, int64_t open_max,
                                                absl::Duration lifetime, absl::Time now) = 0;
  virtual absl::StatusOr<UploadRow> FindUpload(const std::string& name) = 0;
  // So many bytes are synced.
  virtual absl::Status CommitUpload(const std::string& name, int64_t committed,
                                    absl::Duration lifetime, absl::Time now) = 0;
  // Its bytes are gone: nothing is committed any more.
  virtual absl::Status RestartUpload(const std::string& name) = 0;
  virtual absl::Status DropUpload(const std::string& name) = 0;
  // The same if its time is still up; whether it was.
  virtual absl::StatusOr<bool> DropExpiredUpload(const std::string& name, absl::Time now) = 0;
  virtual absl::StatusOr<std::vector<UploadRow>> ExpiredUploads(absl::Time now, int64_t max) = 0;
  virtual absl::StatusOr<std::vector<std::string>> UploadNames() = 0;

  // ---- Objects ----

  // A key to promote to, PENDING; nullopt if the digest is PRESENT already.
  virtual absl::StatusOr<std::optional<ObjectKey>> AllocateObject(absl::string_view digest,
                                                                  int64_t size, absl::Time now) = 0;
  // The object of `key` is in its place: PRESENT, or DELETING if another was faster. Either way the
  // tenant holds the blob. `members` are the digests it names if it is a manifest.
  virtual absl::Status PublishObject(const ObjectKey& key, const std::vector<std::string>& members,
                                     absl::string_view tenant, absl::Time now) = 0;
  // It did not come to that: DELETING if it is PENDING still.
  virtual absl::Status AbandonObject(const ObjectKey& key) = 0;
  // For kHoldDuration from now. NotFound if it is not PRESENT.
  virtual absl::Status HoldBlob(absl::string_view tenant, absl::string_view digest,
                                absl::Time now) = 0;
  // The object, if it is PRESENT and referenced by the tenant, through the owner `reference` if
  // that is not empty. NotFound otherwise.
  virtual absl::StatusOr<ObjectRow> FindBlob(absl::string_view tenant, absl::string_view reference,
                                             absl::string_view digest, absl::Time now) = 0;
  // Those of `digests` that the tenant does not reference or that are absent. Holds the others.
  virtual absl::StatusOr<std::vector<std::string>> FindMissing(
      absl::string_view tenant, const std::vector<std::string>& digests, absl::Time now) = 0;
  // From now on the object counts as absent.
  virtual absl::Status MarkDeleting(const ObjectKey& key) = 0;

  // ---- Pins ----

  // Pins for the owner, whose tenant must reference the blob and, if it is a manifest, all that it
  // names. NotFound: "missing blobs: " and up to 100 digests.
  virtual absl::StatusOr<PinRow> CreatePin(absl::string_view tenant, const std::string& owner,
                                           const std::string& digest, const RequestMessage& request,
                                           absl::Time now) = 0;
  virtual absl::Status DeletePin(absl::string_view tenant, const std::string& owner,
                                 const std::string& digest, const RequestMessage& request,
                                 absl::Time now) = 0;
  // Pins of the tenant by (owner, digest), after `after` (both empty: from the beginning).
  virtual absl::StatusOr<std::vector<PinRow>> ListPins(absl::string_view tenant,
                                                       absl::string_view owner_prefix,
                                                       const PinRow& after, int64_t max) = 0;

  // ---- Datasets and base models; `kind` is "datasets" or "baseModels" ----

  // Inserts, pins `pins` for it (as CreatePin) and remembers the request. AlreadyExists: the name.
  virtual absl::Status InsertResource(absl::string_view tenant, absl::string_view kind,
                                      absl::string_view rpc, const ResourceRow& row,
                                      const std::vector<std::string>& pins,
                                      const RequestMessage& request, absl::Time now) = 0;
  // Replaces message, detail and pending; attempts become 0; `pins` become all the pins it owns;
  // remembers the request, unless it is null. NotFound.
  virtual absl::Status UpdateResource(absl::string_view tenant, const ResourceRow& row,
                                      const std::vector<std::string>& pins, absl::string_view rpc,
                                      const RequestMessage* request, absl::Time now) = 0;
  virtual absl::StatusOr<ResourceRow> GetResource(const std::string& name) = 0;
  // Newest first, below `before_seq` (0: from the newest).
  virtual absl::StatusOr<std::vector<ResourceRow>> ListResources(absl::string_view tenant,
                                                                 absl::string_view kind,
                                                                 int64_t before_seq,
                                                                 int64_t max) = 0;
  // Of all tenants, oldest first.
  virtual absl::StatusOr<std::vector<ResourceRow>> PendingResources(int64_t max) = 0;
  virtual absl::StatusOr<int64_t> CountPending() = 0;
  // Work on the resource is begun (+1), or was given up in good order (-1). Returns its attempts.
  // NotFound.
  virtual absl::StatusOr<int64_t> CountAttempt(const std::string& name, int64_t change) = 0;

  // ---- Reports that are dear to compute ----

  virtual absl::StatusOr<std::optional<std::string>> FindReport(absl::string_view key) = 0;
  // Keeps the newest `kept_max`.
  virtual absl::Status PutReport(absl::string_view key, absl::string_view report, int64_t kept_max,
                                 absl::Time now) = 0;

  // ---- Collection ----

  // Objects that nobody references become DELETING, at most `max`; expired holds and old requests
  // go. Returns how many objects.
  virtual absl::StatusOr<int64_t> MarkUnreferenced(absl::Time now, int64_t max) = 0;
  virtual absl::StatusOr<std::vector<ObjectKey>> DeletingObjects(int64_t max) = 0;
  // The objects are removed; their rows go.
  virtual absl::Status ForgetObjects(const std::vector<ObjectKey>& keys) = 0;
  // At start: PENDING objects become DELETING.
  virtual absl::Status AbandonPending() = 0;
  // Whether there is a row, in whatever state.
  virtual absl::StatusOr<bool> KnowsObject(const ObjectKey& key) = 0;

  struct Totals {
    int64_t objects = 0;  // PRESENT.
    int64_t bytes = 0;
    int64_t uploads = 0;
    int64_t pins = 0;
  };
  virtual absl::StatusOr<Totals> CountTotals() = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_METADATA_H_

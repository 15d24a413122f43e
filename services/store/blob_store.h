// BlobStore: where the bytes are. The one door to the disk (later: to S3) for blobs.
//
// It knows two kinds of things:
//
//   staged   bytes that arrive in pieces, under an id of the caller's; they may be continued after
//            a restart
//   objects  whole, verified, immutable, under digest + generation
//
// Promote() makes an object of what is staged. A digest that was collected and comes again gets a
// new generation, so removing the old object can never hit the new one. What exists and who may see
// it is StoreMetadata's to say; an object without a row there is rubbish.
//
// Errors: NotFound (no such thing), ResourceExhausted (disk full; what was synced stays), DataLoss,
// Internal; all name the path. Thread-safe for different ids and keys; one writer per staged id.
//
//   LocalBlobStore   a folder                                local_blob_store.h

#ifndef DELTAWORKS_SERVICES_STORE_BLOB_STORE_H_
#define DELTAWORKS_SERVICES_STORE_BLOB_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace deltaworks::services {

struct ObjectKey {
  std::string digest;
  int64_t generation = 1;

  bool operator==(const ObjectKey&) const = default;
};

// Bytes that can be read from anywhere. Stays readable while its object is removed. Thread-safe,
// but for Map().
class BlobReader {
 public:
  virtual ~BlobReader() = default;
  virtual int64_t size() const = 0;
  // Fills `out` from `offset`; returns how many bytes, fewer only at the end.
  virtual absl::StatusOr<int64_t> Read(int64_t offset, absl::Span<char> out) const = 0;
  // All bytes as a view that lives as long as the reader. For blobs that are parsed as a whole.
  virtual absl::StatusOr<absl::string_view> Map() = 0;
};

class BlobStore {
 public:
  virtual ~BlobStore() = default;

  // ---- Staged; ids are resource ids ----

  // Appends at `offset`, which is the present size or less; what lies beyond is dropped. Makes what
  // is not there. Not durable before SyncStaged().
  virtual absl::Status AppendStaged(const std::string& id, int64_t offset,
                                    absl::string_view data) = 0;
  virtual absl::Status SyncStaged(const std::string& id) = 0;
  virtual absl::StatusOr<std::unique_ptr<BlobReader>> OpenStaged(const std::string& id) = 0;
  // Moves a local file in, synced. It must lie on the store's disk or be cheap to copy.
  virtual absl::Status StageFile(const std::string& id, const std::string& path) = 0;
  // OK if it is not there.
  virtual absl::Status DropStaged(const std::string& id) = 0;
  virtual absl::StatusOr<std::vector<std::string>> ListStaged() = 0;

  // ---- Objects ----

  // Durable once OK. Replaces an object of the same key.
  virtual absl::Status Promote(const std::string& id, const ObjectKey& key) = 0;
  virtual absl::StatusOr<std::unique_ptr<BlobReader>> Open(const ObjectKey& key) = 0;
  // OK if it is not there.
  virtual absl::Status Remove(const ObjectKey& key) = 0;
  virtual absl::StatusOr<std::vector<ObjectKey>> List() = 0;
  // Makes the object readable at `path`, which must not exist, for code that wants a file.
  virtual absl::Status Link(const ObjectKey& key, const std::string& path) = 0;

  // How much more fits.
  virtual absl::StatusOr<int64_t> AvailableBytes() = 0;
};

// sha256 of everything in `reader`, in pieces of a megabyte.
absl::StatusOr<std::string> DigestOf(const BlobReader& reader);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_BLOB_STORE_H_

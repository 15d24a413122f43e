// Blobs: whole blobs in and out, over BlobStore and StoreMetadata. What every part of the store
// that needs bytes uses.
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_STORE_BLOBS_H_
#define DELTAWORKS_SERVICES_STORE_BLOBS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/store/blob_store.h"
#include "services/store/metadata.h"

namespace deltaworks::services {

class Clock;
struct StoreMetrics;

// Who wants to read, and through which reference (empty: any of the tenant's).
struct BlobReference {
  std::string tenant;
  std::string reference;
  std::string digest;
};

class Blobs {
 public:
  // All must outlive this.
  Blobs(BlobStore& store, StoreMetadata& metadata, const Clock& clock, StoreMetrics& metrics)
      : store_(store), metadata_(metadata), clock_(clock), metrics_(metrics) {}

  // The bytes as stored, unverified. NotFound: absent or not referenced. DataLoss: the file is not
  // there or of another size; from now on the blob counts as absent.
  absl::StatusOr<std::unique_ptr<BlobReader>> Open(const BlobReference& blob);

  // The same after every byte was read and the digest compared. Fills in all of `description` but
  // its path, unless it is null.
  absl::StatusOr<std::unique_ptr<BlobReader>> OpenVerified(const BlobReference& blob,
                                                           v1::ManifestFile* description = nullptr);

  // Reads the blob again. True if it is damaged; then it counts as absent from now on.
  absl::StatusOr<bool> CheckDamaged(const BlobReference& blob);

  // Puts the verified blob at `path`, which must not exist, for code that wants a file.
  absl::Status LinkVerified(const BlobReference& blob, const std::string& path);

  // Makes an object of what is staged under `id`, whose digest the caller has verified, and holds
  // it for the tenant. If it is there already, the staged bytes are dropped.
  absl::Status Promote(const std::string& id, const std::string& tenant, const std::string& digest,
                       int64_t size);

  // The same for bytes; returns the digest.
  absl::StatusOr<std::string> AddBytes(const std::string& tenant, absl::string_view data);
  // The same for a file that is moved in; returns its entry of a manifest, under `manifest_path`.
  // It is gone from `path` also after an error.
  absl::StatusOr<v1::ManifestFile> AddFile(const std::string& tenant,
                                           absl::string_view manifest_path,
                                           const std::string& path);

  BlobStore& store() { return store_; }

 private:
  absl::StatusOr<std::unique_ptr<BlobReader>> OpenObject(const BlobReference& blob,
                                                         ObjectRow& object);
  absl::StatusOr<std::unique_ptr<BlobReader>> Verify(const ObjectRow& object,
                                                     std::unique_ptr<BlobReader> reader,
                                                     v1::ManifestFile* description);
  absl::Status PromoteNew(const std::string& id, const ObjectKey& key, const std::string& tenant);
  absl::Status Damaged(const ObjectRow& object, absl::string_view what);

  BlobStore& store_;
  StoreMetadata& metadata_;
  const Clock& clock_;
  StoreMetrics& metrics_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_BLOBS_H_

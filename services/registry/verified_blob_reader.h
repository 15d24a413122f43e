// VerifiedBlobReader: blobs of the store, digests verified.
//
// Bytes that do not have their digest are reported to the store, which reads them again. If it
// finds them damaged they count as absent, and the next upload replaces them; if it does not, they
// were damaged on the way and are read once more.
//
// Errors of every read:
//   NotFound     the blob is absent, or no reference of the tenant leads to it
//   DataLoss     the store's bytes are damaged; it knows by now, and counts them as absent
//   Unavailable  anything else that went wrong between here and the store; repeat
//
// Thread-safe if the StoreClient is.

#ifndef DELTAWORKS_SERVICES_REGISTRY_VERIFIED_BLOB_READER_H_
#define DELTAWORKS_SERVICES_REGISTRY_VERIFIED_BLOB_READER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "services/clients/store_client.h"
#include "services/registry/metrics.h"

namespace deltaworks::services {

// A blob that was read from end to end and has its digest.
struct WholeBlob {
  v1::ManifestFile file;  // Without a path: its size and digests.
  std::string bytes;      // Empty if they were not asked for.
};

class VerifiedBlobReader {
 public:
  // Both must outlive this.
  VerifiedBlobReader(StoreClient& store, RegistryMetrics& metrics)
      : store_(store), metrics_(metrics) {}

  // Keeps the bytes. ResourceExhausted if there are more than `size_max`.
  absl::StatusOr<WholeBlob> Read(const std::string& tenant, const std::string& digest,
                                 int64_t size_max) const;
  // Reads it only to know that it is whole.
  absl::StatusOr<WholeBlob> Verify(const std::string& tenant, const std::string& digest) const;

  // `length` bytes at `offset`, whose own digest is `chunk_digest`.
  absl::StatusOr<std::string> ReadChunk(const std::string& tenant, const std::string& digest,
                                        int64_t offset, int64_t length,
                                        const std::string& chunk_digest) const;

 private:
  absl::StatusOr<WholeBlob> ReadWhole(const std::string& tenant, const std::string& digest,
                                      bool keep, int64_t size_max) const;
  // OK: it was not the store's copy, read again. DataLoss or Unavailable otherwise.
  absl::Status Report(const std::string& tenant, const std::string& digest, int64_t offset,
                      const absl::Status& seen) const;

  StoreClient& store_;
  RegistryMetrics& metrics_;
};

// What an error of a call to the store means for the registry's caller: NotFound and DataLoss stay,
// anything else is Unavailable.
absl::Status FromStore(const absl::Status& status);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_REGISTRY_VERIFIED_BLOB_READER_H_

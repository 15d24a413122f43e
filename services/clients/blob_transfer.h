// Moving whole blobs to and from the store, over a StoreClient, so that nothing is sent twice and
// nothing is believed unread.
//
// Up: the digest is computed first, the upload resumes where the store is, also after a restart of
// either side. Down: each 4 MiB chunk is checked against the manifest before it is written; a file
// appears under its name only whole, synced and read-only (0444); what an interrupted download left
// ("NAME.part") is verified and continued. A chunk that is wrong twice is reported to the store.
//
// Errors are those of the store; ResourceExhausted and others of the local disk name the path;
// DataLoss names file, offset and both digests. Functions are thread-safe; two downloads to one
// path at a time are not.

#ifndef DELTAWORKS_SERVICES_CLIENTS_BLOB_TRANSFER_H_
#define DELTAWORKS_SERVICES_CLIENTS_BLOB_TRANSFER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "services/clients/retry.h"
#include "services/clients/store_client.h"

namespace deltaworks::services {

struct TransferOptions {
  // total_max counts from the last byte that got through.
  RetryPolicy retry;
  // Called now and then with bytes done and in all; an error ends the transfer, which returns it.
  // DownloadBytes does not know how many there are and gives its bound instead.
  std::function<absl::Status(int64_t done, int64_t total)> progress;
  // Called with the size of each piece that a download received, right or wrong; what was there
  // before is not received.
  std::function<void(int64_t bytes)> received;
};

// A transfer that ends with Cancelled once `cancelled()`, which is asked at each piece; nor does it
// wait then for a store that is away.
TransferOptions CancelledBy(std::function<bool()> cancelled);

// Uploads a file (or bytes) to `tenant`; returns its manifest entry under `manifest_path`. The
// bytes are pinned for 24 hours.
absl::StatusOr<v1::ManifestFile> UploadFile(StoreClient& store, const std::string& tenant,
                                            absl::string_view manifest_path,
                                            const std::string& file_path,
                                            const TransferOptions& options = {});
absl::StatusOr<v1::ManifestFile> UploadBytes(StoreClient& store, const std::string& tenant,
                                             absl::string_view manifest_path,
                                             absl::string_view data,
                                             const TransferOptions& options = {});
// The same for bytes that are described already: `file` is DescribeBytes(..., data).
absl::Status UploadBytes(StoreClient& store, const std::string& tenant,
                         const v1::ManifestFile& file, absl::string_view data,
                         const TransferOptions& options = {});

// Serialises the manifest and uploads it; returns its digest.
absl::StatusOr<std::string> UploadManifest(StoreClient& store, const std::string& tenant,
                                           const v1::Manifest& manifest,
                                           const TransferOptions& options = {});

// Who reads, and through which reference (see ReadBlobRequest; may be empty).
struct BlobAccess {
  std::string tenant;
  std::string reference;
};

// Takes a chunk (4 MiB, the last one less) that matches its digest. An error ends the transfer.
using TakeChunk = std::function<absl::Status(int64_t offset, absl::string_view chunk)>;

// The chunks of a file from `offset` on, a multiple of 4 MiB, in order.
absl::Status StreamFile(StoreClient& store, const BlobAccess& access, const v1::ManifestFile& file,
                        int64_t offset, TakeChunk take, const TransferOptions& options = {});

// Whether `path` has the size and digest of the file.
bool IsThere(const v1::ManifestFile& file, const std::string& path);

// Writes the file to `path`, replacing what is there.
absl::Status DownloadFile(StoreClient& store, const BlobAccess& access,
                          const v1::ManifestFile& file, const std::string& path,
                          const TransferOptions& options = {});

// All files of a manifest into `folder` (made if absent), by their paths. Files that are there with
// the right size and digest are not fetched again.
absl::Status DownloadFiles(StoreClient& store, const BlobAccess& access,
                           const v1::Manifest& manifest, const std::string& folder,
                           const TransferOptions& options = {});

// A blob in memory, verified. ResourceExhausted if it is larger than `size_max` bytes.
absl::StatusOr<std::string> DownloadBytes(StoreClient& store, const BlobAccess& access,
                                          const std::string& digest, int64_t size_max,
                                          const TransferOptions& options = {});

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_BLOB_TRANSFER_H_

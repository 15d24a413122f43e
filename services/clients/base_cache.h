// BaseCache: the base models of a node, fetched once, shared by its workers.
//
//   FOLDER/bases/HEX/        the files of the manifest sha256:HEX, 0444, whole and verified
//   FOLDER/bases/HEX.part/   being fetched; continued after an interruption
//   FOLDER/bases/HEX.lock    flock: one fetch per node and base
//
// The nodes of a gang fetch together: the store sends what they lack once, and who has it passes it
// on to the others.
//
// Every 4 MiB chunk is compared with its digest before it counts, those of files found in the cache
// once per process. A file that is damaged is named, with the chunk, and fetched again beside its
// place: a worker that maps the old one keeps what it has.
// Thread-safe; processes may share a folder.

#ifndef DELTAWORKS_SERVICES_CLIENTS_BASE_CACHE_H_
#define DELTAWORKS_SERVICES_CLIENTS_BASE_CACHE_H_

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/base/metrics.h"
#include "services/clients/blob_transfer.h"
#include "services/clients/store_client.h"
#include "trainer/base/mutex.h"
#include "trainer/comm/communicator.h"

namespace prometheus {
class Counter;
}

namespace deltaworks::services {

// InvalidArgument if it is the manifest of something else, or not the one of that digest.
absl::StatusOr<v1::Manifest> ParseBaseManifest(const std::string& bytes,
                                               const std::string& manifest_digest);

class BaseCache {
 public:
  // `store` and `metrics` must outlive it.
  BaseCache(std::string folder, StoreClient& store, Metrics& metrics);

  // The folder of the base, fetched through `access` if it is not there. `cancelled` is asked now
  // and then; once true, Cancelled is returned and what was fetched is kept for the next try.
  //   NotFound           the store has no such manifest or blob, or not for this access.
  //   DataLoss           a chunk is wrong in the store too; names file, offset, digests.
  //   ResourceExhausted  the disk is full.
  absl::StatusOr<std::string> Ensure(const BlobAccess& access, const std::string& manifest_digest,
                                     const std::function<bool()>& cancelled);

  // The same for all members of a gang, which must call it together. An error of `gang`
  // (trainer/comm/communicator.h) too, after which, as after any other, it is of no use any more;
  // what was fetched is kept for the next try.
  absl::StatusOr<std::string> EnsureInGang(const BlobAccess& access,
                                           const std::string& manifest_digest,
                                           const std::function<bool()>& cancelled,
                                           trainer::Communicator& gang);

  // Manifest digests of the bases that are there whole, at most 1,000.
  std::vector<std::string> List() const;

 private:
  absl::Status FetchOrRepair(const BlobAccess& access, const std::string& manifest_digest,
                             const std::string& folder, const TransferOptions& options);
  // Names the first wrong chunk of each damaged file. True if there was none.
  bool IsIntact(const v1::Manifest& manifest, const std::string& folder);

  // What a member of a gang does while the others fetch.
  enum class InGang {
    kWhole,   // It has the base.
    kWrites,  // It writes what it lacks.
    kWaits,   // Another process of its node writes.
  };
  absl::StatusOr<std::string> ShareManifest(const BlobAccess& access,
                                            const std::string& manifest_digest,
                                            const TransferOptions& options,
                                            trainer::Communicator& gang);
  absl::Status ShareFiles(const BlobAccess& access, const v1::Manifest& manifest,
                          const std::string& folder, InGang mine, const TransferOptions& options,
                          const std::function<bool()>& cancelled, trainer::Communicator& gang);

  // Where the base is or will be; makes the folder around it.
  absl::StatusOr<std::string> FolderOf(const std::string& manifest_digest) const;
  TransferOptions TransferOptionsOf(const std::function<bool()>& cancelled);
  bool IsVerified(const std::string& manifest_digest, const std::string& folder);
  void SetVerified(const std::string& manifest_digest);

  const std::string folder_;
  StoreClient& store_;
  prometheus::Counter& bytes_fetched_;
  prometheus::Counter& bytes_from_gang_;
  prometheus::Counter& chunks_corrupt_;
  Mutex mutex_;
  std::set<std::string> verified_ ABSL_GUARDED_BY(mutex_);  // Manifest digests.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_BASE_CACHE_H_

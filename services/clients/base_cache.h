// BaseCache: the base models of a node, fetched once, shared by its workers.
//
//   FOLDER/bases/HEX/        the files of the manifest sha256:HEX, 0444, whole and verified
//   FOLDER/bases/HEX.part/   being fetched; continued after an interruption
//   FOLDER/bases/HEX.lock    flock: one fetch per node and base
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

namespace prometheus {
class Counter;
}

namespace deltaworks::services {

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

  // Manifest digests of the bases that are there whole, at most 1,000.
  std::vector<std::string> List() const;

 private:
  absl::Status FetchOrRepair(const BlobAccess& access, const std::string& manifest_digest,
                             const std::string& folder, const TransferOptions& options);
  // Names the first wrong chunk of each damaged file. True if there was none.
  bool IsIntact(const v1::Manifest& manifest, const std::string& folder);

  const std::string folder_;
  StoreClient& store_;
  prometheus::Counter& bytes_fetched_;
  prometheus::Counter& chunks_corrupt_;
  Mutex mutex_;
  std::set<std::string> verified_ ABSL_GUARDED_BY(mutex_);  // Manifest digests.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_BASE_CACHE_H_

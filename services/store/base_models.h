// BaseModels: base models and their import.
//
// Import() writes a row and returns; one thread works through the rows that are IMPORTING, oldest
// first, one at a time, also those that a restart left behind. An import reads the source into a
// folder of its own, makes blobs and a manifest of the result, and only then makes the row READY,
// in one transaction with the pin that keeps the bytes. A source that cannot be imported leaves the
// row FAILED, and its id may be used again; a disk that is full, too. What the process was stopped
// in begins again; what it died in begins again attempts_max times, because the source may be what
// it dies of.
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_STORE_BASE_MODELS_H_
#define DELTAWORKS_SERVICES_STORE_BASE_MODELS_H_

#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/store/blobs.h"
#include "services/store/metadata.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class BaseModels {
 public:
  struct Options {
    // Where imports are worked on; on the disk of the blobs. Emptied at start.
    std::string work_folder;
    // local_path must lie in one of these.
    std::vector<std::string> import_folders;
    // IMPORTING at once, of all tenants.
    int64_t waiting_max = 100;
    // Times that one import is begun.
    int64_t attempts_max = 10;
  };

  // All must outlive this.
  BaseModels(Blobs& blobs, StoreMetadata& metadata, const Clock& clock, StoreMetrics& metrics,
             const Options& options);
  // Stops the import under way; it begins again at the next start.
  ~BaseModels();

  // Begins to work.
  absl::Status Start();

  // The errors of ImportBaseModel in the contract.
  absl::StatusOr<v1::BaseModel> Import(const std::string& tenant,
                                       const v1::ImportBaseModelRequest& request);
  absl::StatusOr<v1::BaseModel> Get(const std::string& name);
  absl::StatusOr<v1::ListBaseModelsResponse> List(const std::string& tenant,
                                                  const v1::ListBaseModelsRequest& request);

 private:
  absl::Status CheckRequest(const v1::ImportBaseModelRequest& request) const;
  absl::StatusOr<v1::BaseModel> FindOrInsert(const std::string& tenant,
                                             const v1::ImportBaseModelRequest& request)
      ABSL_LOCKS_EXCLUDED(insert_mutex_);
  absl::StatusOr<v1::BaseModel> Insert(const std::string& tenant,
                                       const v1::ImportBaseModelRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(insert_mutex_);
  absl::StatusOr<v1::BaseModel> ParseRow(const ResourceRow& row);
  void Run();
  // The oldest row to work on; false if there is none.
  bool NextPending(ResourceRow& row);
  void ImportRow(const ResourceRow& row);
  // The work itself; fills in `base_model` from the source.
  absl::Status ImportSource(const ResourceRow& row, v1::BaseModel& base_model);
  // Counts this beginning. Aborted: one too many.
  absl::Status Begin(const std::string& name);
  void PauseAfter(const absl::Status& status);
  void SetProgress(const std::string& name, double share);
  bool stopping();

  Blobs& blobs_;
  StoreMetadata& metadata_;
  const Clock& clock_;
  StoreMetrics& metrics_;
  const Options options_;

  // Held from the look at what is there to the row, so that one request makes or replaces it and
  // waiting_max holds.
  Mutex insert_mutex_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<std::string, double> progress_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_BASE_MODELS_H_

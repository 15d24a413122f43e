// DatasetTexts: how a dataset looks to a trainer: reports, and the exact tokens of single examples.
//
// Reports are dear (every line is tokenised), a function of blob, base and settings, and therefore
// kept in the metadata. One is computed at most once at a time, however often it is asked for (a
// caller whose time is up asks again), and few at once; who waits holds a thread of the server, so
// waiting has a bound, too.
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_STORE_DATASET_TEXTS_H_
#define DELTAWORKS_SERVICES_STORE_DATASET_TEXTS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/store/base_models.h"
#include "services/store/blobs.h"
#include "services/store/datasets.h"
#include "services/store/metadata.h"
#include "services/store/text_models.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class DatasetTexts {
 public:
  struct Options {
    int64_t reports_kept_max = 10'000;
    int64_t reports_at_once_max = 2;
    int64_t reports_waiting_max = 32;
  };

  // All must outlive this.
  DatasetTexts(StoreMetadata& metadata, Datasets& datasets, BaseModels& base_models,
               TextModels& text_models, const Clock& clock, const Options& options)
      : metadata_(metadata),
        datasets_(datasets),
        base_models_(base_models),
        text_models_(text_models),
        clock_(clock),
        options_(options) {}

  // The errors of these rpcs in the contract. `tenant` is that of request.parent; other names in
  // the request have been checked to be of it.
  absl::StatusOr<v1::DatasetReport> Check(const std::string& tenant,
                                          const v1::CheckDatasetRequest& request);
  absl::StatusOr<v1::PreviewDatasetResponse> Preview(const std::string& tenant,
                                                     const v1::PreviewDatasetRequest& request);

  // The report of a blob on a READY base, under settings whose max_length is set.
  absl::StatusOr<v1::DatasetReport> Report(const BlobReference& blob,
                                           const v1::BaseModel& base_model,
                                           const v1::TextSettings& text);

 private:
  absl::StatusOr<BlobReference> Source(const std::string& tenant, const std::string& dataset,
                                       const std::string& blob_digest, bool is_dataset);
  // The base, READY, and the settings with max_length filled in.
  absl::StatusOr<v1::BaseModel> ReadyBase(const std::string& name, v1::TextSettings& text);

  class Turn;
  // Waits until nobody computes `key` and there is room. ResourceExhausted: too many wait.
  absl::StatusOr<std::unique_ptr<Turn>> TakeTurn(const std::string& key);

  StoreMetadata& metadata_;
  Datasets& datasets_;
  BaseModels& base_models_;
  TextModels& text_models_;
  const Clock& clock_;
  const Options options_;

  Mutex mutex_;
  CondVar changed_;
  absl::flat_hash_set<std::string> computing_ ABSL_GUARDED_BY(mutex_);
  int64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
};

// text.max_length of a job that gives none: 1024, or the base's context if that is smaller.
int32_t DefaultMaxLength(const v1::BaseModel& base_model);

// "max_length is 9, want 2..8192, the base's context": InvalidArgument.
absl::Status CheckTextSettings(const v1::TextSettings& text, const v1::BaseModel& base_model);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_DATASET_TEXTS_H_

// Datasets: JSONL blobs whose every line was read before they were accepted. Immutable.
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_STORE_DATASETS_H_
#define DELTAWORKS_SERVICES_STORE_DATASETS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/store/blobs.h"
#include "services/store/metadata.h"
#include "trainer/data/record.h"

namespace deltaworks::services {

// The one file of a dataset's manifest.
inline constexpr char kDatasetFile[] = "data.jsonl";

v1::Dataset::Format ToFormat(trainer::RecordForm form);

class Datasets {
 public:
  struct Options {
    int64_t dataset_bytes_max = int64_t{4} << 30;
  };

  // All must outlive this.
  Datasets(Blobs& blobs, StoreMetadata& metadata, const Clock& clock, const Options& options)
      : blobs_(blobs), metadata_(metadata), clock_(clock), options_(options) {}

  // The errors of CreateDataset in the contract. `tenant` is that of request.parent.
  absl::StatusOr<v1::Dataset> Create(const std::string& tenant,
                                     const v1::CreateDatasetRequest& request);
  absl::StatusOr<v1::Dataset> Get(const std::string& name);
  // The verified bytes of a dataset, or of a blob that might become one. ResourceExhausted: larger
  // than dataset_bytes_max. Others, and `description`, as Blobs::OpenVerified.
  absl::StatusOr<std::unique_ptr<BlobReader>> OpenLines(const BlobReference& blob,
                                                        v1::ManifestFile* description = nullptr);
  absl::StatusOr<v1::ListDatasetsResponse> List(const std::string& tenant,
                                                const v1::ListDatasetsRequest& request);

 private:
  absl::Status ReadLines(const std::string& tenant, v1::Dataset& dataset);

  Blobs& blobs_;
  StoreMetadata& metadata_;
  const Clock& clock_;
  const Options options_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_DATASETS_H_

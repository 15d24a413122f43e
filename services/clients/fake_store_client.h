// FakeStoreClient: a store in memory, for tests of what calls the store.
//
// Blobs, uploads, pins and manifests work as in store_service.proto, with one simplification: a
// tenant may read every blob that was uploaded to it, whatever the reference. Datasets, bases and
// reports are what the test put there. Faults are injected by call: Fail() makes the next calls of
// an rpc fail, FlipByte() damages a blob.
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_CLIENTS_FAKE_STORE_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_FAKE_STORE_CLIENT_H_

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "services/clients/store_client.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

// Not final: a test may answer one call otherwise.
class FakeStoreClient : public StoreClient {
 public:
  // ---- For the test ----

  // The next `count` calls of the rpc ("WriteUpload") fail with `status`. A stream fails after one
  // piece was taken.
  void Fail(const std::string& rpc, absl::Status status, int count = 1);
  int64_t CallCount(const std::string& rpc) const;

  // Puts a blob there, uploaded by `tenant`. Returns its digest.
  std::string AddBlob(const std::string& tenant, absl::string_view data);
  bool HasBlob(const std::string& digest) const;
  void RemoveBlob(const std::string& digest);
  void FlipByte(const std::string& digest, int64_t offset);
  std::set<std::pair<std::string, std::string>> Pins() const;   // (owner, digest)
  std::set<std::pair<std::string, std::string>> Reads() const;  // (reference, digest)

  void PutDataset(const v1::Dataset& dataset);
  void PutBaseModel(const v1::BaseModel& base_model);
  // What CheckDataset and PreviewDataset answer; without it, Unimplemented.
  void SetReport(const v1::DatasetReport& report);
  void SetPreview(const v1::PreviewDatasetResponse& preview);
  // What ValidateTraining answers; without it, Unavailable.
  using Validator = std::function<absl::StatusOr<v1::ValidateTrainingResponse>(
      const v1::ValidateTrainingRequest&)>;
  void SetValidator(Validator validator);

  // ---- StoreClient ----

  absl::StatusOr<v1::Upload> CreateUpload(const v1::CreateUploadRequest& request) override;
  absl::StatusOr<v1::Upload> GetUpload(const std::string& name) override;
  absl::StatusOr<v1::Upload> WriteUpload(const std::string& name, int64_t offset,
                                         const Source& source) override;
  absl::StatusOr<v1::FindMissingBlobsResponse> FindMissingBlobs(
      const v1::FindMissingBlobsRequest& request) override;
  absl::Status ReadBlob(const v1::ReadBlobRequest& request, const Sink& sink) override;
  absl::StatusOr<v1::Manifest> GetManifest(const v1::GetManifestRequest& request) override;
  absl::StatusOr<v1::ReportCorruptBlobResponse> ReportCorruptBlob(
      const v1::ReportCorruptBlobRequest& request) override;
  absl::StatusOr<v1::Pin> CreatePin(const v1::CreatePinRequest& request) override;
  absl::Status DeletePin(const v1::DeletePinRequest& request) override;
  absl::StatusOr<v1::ListPinsResponse> ListPins(const v1::ListPinsRequest& request) override;
  absl::StatusOr<v1::Dataset> CreateDataset(const v1::CreateDatasetRequest& request) override;
  absl::StatusOr<v1::Dataset> GetDataset(const std::string& name) override;
  absl::StatusOr<v1::ListDatasetsResponse> ListDatasets(
      const v1::ListDatasetsRequest& request) override;
  absl::StatusOr<v1::DatasetReport> CheckDataset(const v1::CheckDatasetRequest& request) override;
  absl::StatusOr<v1::PreviewDatasetResponse> PreviewDataset(
      const v1::PreviewDatasetRequest& request) override;
  absl::StatusOr<v1::BaseModel> ImportBaseModel(const v1::ImportBaseModelRequest& request) override;
  absl::StatusOr<v1::BaseModel> GetBaseModel(const std::string& name) override;
  absl::StatusOr<v1::ListBaseModelsResponse> ListBaseModels(
      const v1::ListBaseModelsRequest& request) override;
  absl::StatusOr<v1::ValidateTrainingResponse> ValidateTraining(
      const v1::ValidateTrainingRequest& request) override;

 private:
  struct PendingUpload {
    std::string tenant;
    std::string digest;
    int64_t size = 0;
    std::string data;
  };

  // Counts the call and returns its injected failure.
  absl::Status Begin(const std::string& rpc) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayRead(absl::string_view parent, const std::string& digest) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<v1::Upload> FinishUpload(const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::map<std::string, std::pair<absl::Status, int>> failures_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> calls_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> blobs_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<std::string, std::string>> readers_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, PendingUpload> uploads_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<std::string, std::string>> pins_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<std::string, std::string>> reads_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, v1::Dataset> datasets_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, v1::BaseModel> base_models_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::DatasetReport> report_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::PreviewDatasetResponse> preview_ ABSL_GUARDED_BY(mutex_);
  Validator validator_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_FAKE_STORE_CLIENT_H_

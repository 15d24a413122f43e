// StoreClient: the store, as its callers see it.
//
// Calls block, are retried while the store is UNAVAILABLE (retry.h) and return the errors of
// proto/deltaworks/v1/store_service.proto. A mutating request without request_id gets one. Whole
// files are moved by blob_transfer.h, over this interface.
//
//   GrpcStoreClient   over a Channel                    grpc_store_client.h
//   FakeStoreClient   in memory, for tests of callers   fake_store_client.h
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_CLIENTS_STORE_CLIENT_H_
#define DELTAWORKS_SERVICES_CLIENTS_STORE_CLIENT_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/store_service.pb.h"

namespace deltaworks::services {

class StoreClient {
 public:
  virtual ~StoreClient() = default;

  // Fills `piece` with up to 1 MiB of the bytes at `offset`; an empty one ends the writing early.
  using Source = std::function<absl::Status(int64_t offset, std::string& piece)>;
  // Takes bytes in order. An error ends the reading, which returns it.
  using Sink = std::function<absl::Status(absl::string_view piece)>;

  // ---- Blobs ----
  virtual absl::StatusOr<v1::Upload> CreateUpload(const v1::CreateUploadRequest& request) = 0;
  virtual absl::StatusOr<v1::Upload> GetUpload(const std::string& name) = 0;
  // One stream, from `offset` to the end of `source`. Not retried: ask GetUpload where to go on.
  virtual absl::StatusOr<v1::Upload> WriteUpload(const std::string& name, int64_t offset,
                                                 const Source& source) = 0;
  virtual absl::StatusOr<v1::FindMissingBlobsResponse> FindMissingBlobs(
      const v1::FindMissingBlobsRequest& request) = 0;
  // One stream. Not retried: `sink` may have taken bytes.
  virtual absl::Status ReadBlob(const v1::ReadBlobRequest& request, const Sink& sink) = 0;
  virtual absl::StatusOr<v1::Manifest> GetManifest(const v1::GetManifestRequest& request) = 0;
  virtual absl::StatusOr<v1::ReportCorruptBlobResponse> ReportCorruptBlob(
      const v1::ReportCorruptBlobRequest& request) = 0;
  virtual absl::StatusOr<v1::Pin> CreatePin(const v1::CreatePinRequest& request) = 0;
  virtual absl::Status DeletePin(const v1::DeletePinRequest& request) = 0;
  virtual absl::StatusOr<v1::ListPinsResponse> ListPins(const v1::ListPinsRequest& request) = 0;

  // ---- Datasets ----
  virtual absl::StatusOr<v1::Dataset> CreateDataset(const v1::CreateDatasetRequest& request) = 0;
  virtual absl::StatusOr<v1::Dataset> GetDataset(const std::string& name) = 0;
  virtual absl::StatusOr<v1::ListDatasetsResponse> ListDatasets(
      const v1::ListDatasetsRequest& request) = 0;
  virtual absl::StatusOr<v1::DatasetReport> CheckDataset(
      const v1::CheckDatasetRequest& request) = 0;
  virtual absl::StatusOr<v1::PreviewDatasetResponse> PreviewDataset(
      const v1::PreviewDatasetRequest& request) = 0;

  // ---- Base models ----
  virtual absl::StatusOr<v1::BaseModel> ImportBaseModel(
      const v1::ImportBaseModelRequest& request) = 0;
  virtual absl::StatusOr<v1::BaseModel> GetBaseModel(const std::string& name) = 0;
  virtual absl::StatusOr<v1::ListBaseModelsResponse> ListBaseModels(
      const v1::ListBaseModelsRequest& request) = 0;

  // ---- For the scheduler ----
  virtual absl::StatusOr<v1::ValidateTrainingResponse> ValidateTraining(
      const v1::ValidateTrainingRequest& request) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_STORE_CLIENT_H_

// The gRPC face of the store: validate, convert, delegate. What happens is decided by the parts
// behind it, which know no gRPC. For the contract, see proto/deltaworks/v1/store_service.proto.

#ifndef DELTAWORKS_SERVICES_STORE_STORE_SERVICE_H_
#define DELTAWORKS_SERVICES_STORE_STORE_SERVICE_H_

#include "proto/deltaworks/v1/store_service.grpc.pb.h"

namespace deltaworks::services {

class Authenticator;
class BaseModels;
class BlobCalls;
class DatasetTexts;
class Datasets;
struct StoreMetrics;
class TrainingCheck;
class WholeReads;

// What the handlers need. All must outlive the service.
struct StoreParts {
  const Authenticator& authenticator;
  StoreMetrics& metrics;
  BlobCalls& blob_calls;
  WholeReads& whole_reads;
  Datasets& datasets;
  BaseModels& base_models;
  DatasetTexts& texts;
  TrainingCheck& training_check;
};

// Stateless and thread-safe; gRPC calls it from many threads at once. Handlers block on the disk.
class StoreService final : public v1::StoreService::Service {
 public:
  explicit StoreService(const StoreParts& parts) : parts_(parts) {}

  grpc::Status CreateUpload(grpc::ServerContext* context, const v1::CreateUploadRequest* request,
                            v1::Upload* response) override;
  grpc::Status WriteUpload(grpc::ServerContext* context,
                           grpc::ServerReader<v1::WriteUploadRequest>* reader,
                           v1::Upload* response) override;
  grpc::Status GetUpload(grpc::ServerContext* context, const v1::GetUploadRequest* request,
                         v1::Upload* response) override;
  grpc::Status FindMissingBlobs(grpc::ServerContext* context,
                                const v1::FindMissingBlobsRequest* request,
                                v1::FindMissingBlobsResponse* response) override;
  grpc::Status ReadBlob(grpc::ServerContext* context, const v1::ReadBlobRequest* request,
                        grpc::ServerWriter<v1::ReadBlobResponse>* writer) override;
  grpc::Status GetManifest(grpc::ServerContext* context, const v1::GetManifestRequest* request,
                           v1::Manifest* response) override;
  grpc::Status ReportCorruptBlob(grpc::ServerContext* context,
                                 const v1::ReportCorruptBlobRequest* request,
                                 v1::ReportCorruptBlobResponse* response) override;
  grpc::Status CreatePin(grpc::ServerContext* context, const v1::CreatePinRequest* request,
                         v1::Pin* response) override;
  grpc::Status DeletePin(grpc::ServerContext* context, const v1::DeletePinRequest* request,
                         google::protobuf::Empty* response) override;
  grpc::Status ListPins(grpc::ServerContext* context, const v1::ListPinsRequest* request,
                        v1::ListPinsResponse* response) override;

  grpc::Status CreateDataset(grpc::ServerContext* context, const v1::CreateDatasetRequest* request,
                             v1::Dataset* response) override;
  grpc::Status GetDataset(grpc::ServerContext* context, const v1::GetDatasetRequest* request,
                          v1::Dataset* response) override;
  grpc::Status ListDatasets(grpc::ServerContext* context, const v1::ListDatasetsRequest* request,
                            v1::ListDatasetsResponse* response) override;
  grpc::Status CheckDataset(grpc::ServerContext* context, const v1::CheckDatasetRequest* request,
                            v1::DatasetReport* response) override;
  grpc::Status PreviewDataset(grpc::ServerContext* context,
                              const v1::PreviewDatasetRequest* request,
                              v1::PreviewDatasetResponse* response) override;

  grpc::Status ImportBaseModel(grpc::ServerContext* context,
                               const v1::ImportBaseModelRequest* request,
                               v1::BaseModel* response) override;
  grpc::Status GetBaseModel(grpc::ServerContext* context, const v1::GetBaseModelRequest* request,
                            v1::BaseModel* response) override;
  grpc::Status ListBaseModels(grpc::ServerContext* context,
                              const v1::ListBaseModelsRequest* request,
                              v1::ListBaseModelsResponse* response) override;

  grpc::Status ValidateTraining(grpc::ServerContext* context,
                                const v1::ValidateTrainingRequest* request,
                                v1::ValidateTrainingResponse* response) override;

 private:
  const StoreParts parts_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_STORE_SERVICE_H_

#include "services/clients/grpc_store_client.h"

#include <utility>

#include "proto/deltaworks/v1/store_service.grpc.pb.h"
#include "services/clients/grpc_calls.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using Stub = v1::StoreService::StubInterface;

constexpr char kService[] = "store";
// Calls that read a whole dataset or base, and streams of any length.
constexpr absl::Duration kSlowCallTimeout = absl::Minutes(10);
constexpr absl::Duration kStreamTimeout = absl::Hours(24);

class GrpcStoreClient final : public StoreClient {
 public:
  explicit GrpcStoreClient(const Channel& channel)
      : channel_(channel), slow_channel_(channel), stub_(v1::StoreService::NewStub(channel.grpc)) {
    slow_channel_.call_timeout = kSlowCallTimeout;
  }

  absl::StatusOr<v1::Upload> CreateUpload(const v1::CreateUploadRequest& request) override {
    return Call(&Stub::CreateUpload, WithRequestId(request));
  }

  absl::StatusOr<v1::Upload> GetUpload(const std::string& name) override {
    return CallByName<v1::GetUploadRequest>(&Stub::GetUpload, name);
  }

  absl::StatusOr<v1::Upload> WriteUpload(const std::string& name, int64_t offset,
                                         const Source& source) override {
    grpc::ClientContext context;
    channel_.Prepare(context, kStreamTimeout);
    v1::Upload upload;
    const auto writer = stub_->WriteUpload(&context, &upload);
    v1::WriteUploadRequest request;
    request.set_name(name);
    absl::Status source_status;
    while (true) {
      request.set_offset(offset);
      request.clear_data();
      source_status = source(offset, *request.mutable_data());
      if (!source_status.ok()) {
        context.TryCancel();
        break;
      }
      offset += static_cast<int64_t>(request.data().size());
      // An empty blob still needs a message that names the upload.
      if (request.data().empty() && request.name().empty()) break;
      const bool last = request.data().empty();
      if (!writer->Write(request) || last) break;
      request.clear_name();
    }
    writer->WritesDone();
    const absl::Status status = FromGrpcStatus(writer->Finish());
    DW_RETURN_IF_ERROR(source_status);
    DW_RETURN_IF_ERROR(status);
    return upload;
  }

  absl::StatusOr<v1::FindMissingBlobsResponse> FindMissingBlobs(
      const v1::FindMissingBlobsRequest& request) override {
    return Call(&Stub::FindMissingBlobs, request);
  }

  absl::Status ReadBlob(const v1::ReadBlobRequest& request, const Sink& sink) override {
    return ReadStream<v1::ReadBlobResponse>(
        channel_, kStreamTimeout,
        [&](grpc::ClientContext& context) { return stub_->ReadBlob(&context, request); },
        [&](const v1::ReadBlobResponse& response) { return sink(response.data()); });
  }

  absl::StatusOr<v1::Manifest> GetManifest(const v1::GetManifestRequest& request) override {
    return Call(&Stub::GetManifest, request);
  }

  absl::StatusOr<v1::ReportCorruptBlobResponse> ReportCorruptBlob(
      const v1::ReportCorruptBlobRequest& request) override {
    return SlowCall(&Stub::ReportCorruptBlob, WithRequestId(request));
  }

  absl::StatusOr<v1::Pin> CreatePin(const v1::CreatePinRequest& request) override {
    return Call(&Stub::CreatePin, WithRequestId(request));
  }

  absl::Status DeletePin(const v1::DeletePinRequest& request) override {
    return Call(&Stub::DeletePin, WithRequestId(request)).status();
  }

  absl::StatusOr<v1::ListPinsResponse> ListPins(const v1::ListPinsRequest& request) override {
    return Call(&Stub::ListPins, request);
  }

  absl::StatusOr<v1::Dataset> CreateDataset(const v1::CreateDatasetRequest& request) override {
    return SlowCall(&Stub::CreateDataset, WithRequestId(request));
  }

  absl::StatusOr<v1::Dataset> GetDataset(const std::string& name) override {
    return CallByName<v1::GetDatasetRequest>(&Stub::GetDataset, name);
  }

  absl::StatusOr<v1::ListDatasetsResponse> ListDatasets(
      const v1::ListDatasetsRequest& request) override {
    return Call(&Stub::ListDatasets, request);
  }

  absl::StatusOr<v1::DatasetReport> CheckDataset(const v1::CheckDatasetRequest& request) override {
    return SlowCall(&Stub::CheckDataset, request);
  }

  absl::StatusOr<v1::PreviewDatasetResponse> PreviewDataset(
      const v1::PreviewDatasetRequest& request) override {
    return SlowCall(&Stub::PreviewDataset, request);
  }

  absl::StatusOr<v1::BaseModel> ImportBaseModel(
      const v1::ImportBaseModelRequest& request) override {
    return Call(&Stub::ImportBaseModel, WithRequestId(request));
  }

  absl::StatusOr<v1::BaseModel> GetBaseModel(const std::string& name) override {
    return CallByName<v1::GetBaseModelRequest>(&Stub::GetBaseModel, name);
  }

  absl::StatusOr<v1::ListBaseModelsResponse> ListBaseModels(
      const v1::ListBaseModelsRequest& request) override {
    return Call(&Stub::ListBaseModels, request);
  }

  absl::StatusOr<v1::ValidateTrainingResponse> ValidateTraining(
      const v1::ValidateTrainingRequest& request) override {
    return SlowCall(&Stub::ValidateTraining, request);
  }

 private:
  template <typename Request, typename Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(Method<Request, Response> method, const Request& request) {
    return CallUnary(channel_, kService, *stub_, method, request);
  }
  template <typename Request, typename Response>
  absl::StatusOr<Response> SlowCall(Method<Request, Response> method, const Request& request) {
    return CallUnary(slow_channel_, kService, *stub_, method, request);
  }
  template <typename Request, typename Response>
  absl::StatusOr<Response> CallByName(Method<Request, Response> method, const std::string& name) {
    Request request;
    request.set_name(name);
    return Call(method, request);
  }

  const Channel channel_;
  Channel slow_channel_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

std::unique_ptr<StoreClient> MakeGrpcStoreClient(const Channel& channel) {
  return std::make_unique<GrpcStoreClient>(channel);
}

}  // namespace deltaworks::services

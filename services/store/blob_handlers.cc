// The handlers of StoreService for blobs and pins.

#include <prometheus/counter.h>

#include "services/store/blob_calls.h"
#include "services/store/handlers.h"
#include "services/store/metrics.h"

namespace deltaworks::services {
namespace {

// Calls `method` for whoever called.
template <typename Request, typename Response>
absl::StatusOr<Response> Call(const StoreParts& parts, const grpc::ServerContext& context,
                              absl::StatusOr<Response> (BlobCalls::*method)(const Caller&,
                                                                            const Request&),
                              const Request& request) {
  DW_ASSIGN_OR_RETURN(const Caller caller, parts.authenticator.CallerOf(context));
  return (parts.blob_calls.*method)(caller, request);
}

}  // namespace

grpc::Status Answer(const StoreParts& parts, const absl::Status& status) {
  if (absl::IsResourceExhausted(status)) parts.metrics.limits_reached.Increment();
  return ToGrpcStatus(status);
}

grpc::Status StoreService::CreateUpload(grpc::ServerContext* context,
                                        const v1::CreateUploadRequest* request,
                                        v1::Upload* response) {
  return Answer(parts_, Call(parts_, *context, &BlobCalls::CreateUpload, *request), response);
}

grpc::Status StoreService::WriteUpload(grpc::ServerContext* context,
                                       grpc::ServerReader<v1::WriteUploadRequest>* reader,
                                       v1::Upload* response) {
  const auto write = [&]() -> absl::StatusOr<v1::Upload> {
    DW_ASSIGN_OR_RETURN(const Caller caller, parts_.authenticator.CallerOf(*context));
    return parts_.blob_calls.WriteUpload(
        caller, [&](v1::WriteUploadRequest& request) { return reader->Read(&request); });
  };
  return Answer(parts_, write(), response);
}

grpc::Status StoreService::GetUpload(grpc::ServerContext* context,
                                     const v1::GetUploadRequest* request, v1::Upload* response) {
  return Answer(parts_, Call(parts_, *context, &BlobCalls::GetUpload, *request), response);
}

grpc::Status StoreService::FindMissingBlobs(grpc::ServerContext* context,
                                            const v1::FindMissingBlobsRequest* request,
                                            v1::FindMissingBlobsResponse* response) {
  return Answer(parts_, Call(parts_, *context, &BlobCalls::FindMissingBlobs, *request), response);
}

grpc::Status StoreService::ReadBlob(grpc::ServerContext* context,
                                    const v1::ReadBlobRequest* request,
                                    grpc::ServerWriter<v1::ReadBlobResponse>* writer) {
  const auto read = [&]() -> absl::Status {
    DW_ASSIGN_OR_RETURN(const Caller caller, parts_.authenticator.CallerOf(*context));
    return parts_.blob_calls.ReadBlob(
        caller, *request, [&](const v1::ReadBlobResponse& piece) { return writer->Write(piece); });
  };
  return Answer(parts_, read());
}

grpc::Status StoreService::GetManifest(grpc::ServerContext* context,
                                       const v1::GetManifestRequest* request,
                                       v1::Manifest* response) {
  return Answer(parts_, Call(parts_, *context, &BlobCalls::GetManifest, *request), response);
}

grpc::Status StoreService::ReportCorruptBlob(grpc::ServerContext* context,
                                             const v1::ReportCorruptBlobRequest* request,
                                             v1::ReportCorruptBlobResponse* response) {
  return Answer(parts_, Call(parts_, *context, &BlobCalls::ReportCorruptBlob, *request), response);
}

grpc::Status StoreService::CreatePin(grpc::ServerContext* context,
                                     const v1::CreatePinRequest* request, v1::Pin* response) {
  return Answer(parts_, Call(parts_, *context, &BlobCalls::CreatePin, *request), response);
}

grpc::Status StoreService::DeletePin(grpc::ServerContext* context,
                                     const v1::DeletePinRequest* request,
                                     google::protobuf::Empty*) {
  const auto drop = [&]() -> absl::Status {
    DW_ASSIGN_OR_RETURN(const Caller caller, parts_.authenticator.CallerOf(*context));
    return parts_.blob_calls.DeletePin(caller, *request);
  };
  return Answer(parts_, drop());
}

grpc::Status StoreService::ListPins(grpc::ServerContext* context,
                                    const v1::ListPinsRequest* request,
                                    v1::ListPinsResponse* response) {
  return Answer(parts_, Call(parts_, *context, &BlobCalls::ListPins, *request), response);
}

}  // namespace deltaworks::services

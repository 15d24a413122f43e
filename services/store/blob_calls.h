// BlobCalls: the store's rpcs for blobs and pins, without gRPC: who may ask for what, then the
// parts behind it. The contract of each is in proto/deltaworks/v1/store_service.proto.
//
// Thread-safe. Calls block on the disk.

#ifndef DELTAWORKS_SERVICES_STORE_BLOB_CALLS_H_
#define DELTAWORKS_SERVICES_STORE_BLOB_CALLS_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/base/caller.h"
#include "services/store/blobs.h"
#include "services/store/metadata.h"
#include "services/store/uploads.h"
#include "services/store/whole_reads.h"

namespace deltaworks::services {

class BlobCalls {
 public:
  // All must outlive this.
  BlobCalls(StoreMetadata& metadata, Blobs& blobs, Uploads& uploads, WholeReads& whole_reads,
            const Clock& clock, StoreMetrics& metrics)
      : metadata_(metadata),
        blobs_(blobs),
        uploads_(uploads),
        whole_reads_(whole_reads),
        clock_(clock),
        metrics_(metrics) {}

  absl::StatusOr<v1::Upload> CreateUpload(const Caller& caller,
                                          const v1::CreateUploadRequest& request);
  // The messages of one stream, in order; false at its end.
  using NextWrite = absl::FunctionRef<bool(v1::WriteUploadRequest& request)>;
  absl::StatusOr<v1::Upload> WriteUpload(const Caller& caller, NextWrite next);
  absl::StatusOr<v1::Upload> GetUpload(const Caller& caller, const v1::GetUploadRequest& request);
  absl::StatusOr<v1::FindMissingBlobsResponse> FindMissingBlobs(
      const Caller& caller, const v1::FindMissingBlobsRequest& request);
  // Ends with Cancelled when `sink` returns false.
  using ReadSink = absl::FunctionRef<bool(const v1::ReadBlobResponse& piece)>;
  absl::Status ReadBlob(const Caller& caller, const v1::ReadBlobRequest& request, ReadSink sink);
  absl::StatusOr<v1::Manifest> GetManifest(const Caller& caller,
                                           const v1::GetManifestRequest& request);
  absl::StatusOr<v1::ReportCorruptBlobResponse> ReportCorruptBlob(
      const Caller& caller, const v1::ReportCorruptBlobRequest& request);
  absl::StatusOr<v1::Pin> CreatePin(const Caller& caller, const v1::CreatePinRequest& request);
  absl::Status DeletePin(const Caller& caller, const v1::DeletePinRequest& request);
  absl::StatusOr<v1::ListPinsResponse> ListPins(const Caller& caller,
                                                const v1::ListPinsRequest& request);

 private:
  StoreMetadata& metadata_;
  Blobs& blobs_;
  Uploads& uploads_;
  WholeReads& whole_reads_;
  const Clock& clock_;
  StoreMetrics& metrics_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_BLOB_CALLS_H_

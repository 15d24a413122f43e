// The handlers of StoreService for blobs and pins.

#include <prometheus/counter.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "scheduler/proto_time.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/base/page_token.h"
#include "services/store/blobs.h"
#include "services/store/handlers.h"
#include "services/store/metadata.h"
#include "services/store/metrics.h"
#include "services/store/uploads.h"
#include "services/store/whole_reads.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int kDigestsMax = 10'000;

v1::Upload ToProto(const Uploads::State& state) {
  v1::Upload upload;
  upload.set_name(state.row.name);
  upload.set_digest(state.row.digest);
  upload.set_size_bytes(state.row.size);
  upload.set_committed_size_bytes(state.row.committed);
  upload.set_done(state.done);
  *upload.mutable_expire_time() = scheduler::ToProto(state.row.expire_time);
  return upload;
}

v1::Pin ToProto(const PinRow& row) {
  v1::Pin pin;
  pin.set_owner(row.owner);
  pin.set_digest(row.digest);
  *pin.mutable_create_time() = scheduler::ToProto(row.create_time);
  return pin;
}

// What a request says about a blob, checked. Foreign references are as absent as wrong digests.
template <typename Request>
absl::StatusOr<BlobReference> ReferenceOf(const StoreParts& parts,
                                          const grpc::ServerContext& context,
                                          const Request& request) {
  DW_ASSIGN_OR_RETURN(const std::string tenant, TenantOfParent(parts, context, request.parent()));
  DW_RETURN_IF_ERROR(CheckDigest("digest", request.digest()));
  if (!request.reference().empty() && TenantOf(request.reference()) != tenant) {
    return NoSuchResource(request.digest());
  }
  return BlobReference{tenant, request.reference(), request.digest()};
}

// Whose pins a caller may make and drop: of its own tenant, and not those that the store makes.
absl::StatusOr<std::string> CheckOwner(const StoreParts& parts, const grpc::ServerContext& context,
                                       absl::string_view field, const std::string& owner) {
  DW_ASSIGN_OR_RETURN(const Caller caller, parts.authenticator.CallerOf(context));
  if (!MatchesName(owner, kJobPattern) && !MatchesName(owner, kVersionPattern)) {
    return absl::InvalidArgumentError(absl::StrCat(field, " is ", owner.substr(0, 200), ", want ",
                                                   kJobPattern, " or ", kVersionPattern));
  }
  DW_RETURN_IF_ERROR(CheckTenantOfParent(caller, owner, field));
  return std::string(TenantOf(owner));
}

absl::StatusOr<v1::Upload> Write(const StoreParts& parts, const grpc::ServerContext& context,
                                 grpc::ServerReader<v1::WriteUploadRequest>& reader) {
  v1::WriteUploadRequest request;
  if (!reader.Read(&request)) {
    return absl::InvalidArgumentError("no message came, want one with the name of the upload");
  }
  DW_RETURN_IF_ERROR(CheckName(parts, context, request.name(), kUploadPattern));
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<Uploads::Writer> writer,
                      parts.uploads.OpenWriter(request.name()));
  do {
    if (static_cast<int64_t>(request.data().size()) > kPieceBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("data has ", request.data().size(), " bytes, want at most ", kPieceBytes));
    }
    DW_RETURN_IF_ERROR(writer->Write(request.offset(), request.data()));
  } while (reader.Read(&request));
  // Also after a cut: what has come counts, and may be all.
  DW_ASSIGN_OR_RETURN(const Uploads::State state, writer->Finish());
  return ToProto(state);
}

absl::Status Read(const StoreParts& parts, const grpc::ServerContext& context,
                  const v1::ReadBlobRequest& request,
                  grpc::ServerWriter<v1::ReadBlobResponse>& writer) {
  DW_ASSIGN_OR_RETURN(const BlobReference blob, ReferenceOf(parts, context, request));
  if (request.offset() < 0 || request.length_bytes() < 0) {
    return absl::InvalidArgumentError(absl::StrCat("offset is ", request.offset(),
                                                   " and length_bytes is ", request.length_bytes(),
                                                   ", want at least 0"));
  }
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, parts.blobs.Open(blob));
  if (request.offset() > reader->size()) {
    return absl::OutOfRangeError(absl::StrCat("offset is ", request.offset(), ", want at most ",
                                              reader->size(), ", the size of the blob"));
  }
  int64_t left = reader->size() - request.offset();
  if (request.length_bytes() > 0) left = std::min(left, request.length_bytes());
  int64_t offset = request.offset();
  v1::ReadBlobResponse response;
  response.set_size_bytes(reader->size());
  do {
    std::string& data = *response.mutable_data();
    data.resize(static_cast<size_t>(std::min(left, kPieceBytes)));
    DW_ASSIGN_OR_RETURN(const int64_t count, reader->Read(offset, absl::MakeSpan(data)));
    if (count < static_cast<int64_t>(data.size())) {
      return absl::DataLossError(absl::StrCat("blob ", blob.digest, ": ends at ", offset + count,
                                              ", want ", reader->size(), " bytes"));
    }
    if (!writer.Write(response)) return absl::CancelledError("the reader went away");
    parts.metrics.read_bytes.Increment(static_cast<double>(count));
    response.clear_size_bytes();
    offset += count;
    left -= count;
  } while (left > 0);
  return absl::OkStatus();
}

}  // namespace

grpc::Status Answer(const StoreParts& parts, const absl::Status& status) {
  if (absl::IsResourceExhausted(status)) parts.metrics.limits_reached.Increment();
  return ToGrpcStatus(status);
}

// ---- Uploads ----

grpc::Status StoreService::CreateUpload(grpc::ServerContext* context,
                                        const v1::CreateUploadRequest* request,
                                        v1::Upload* response) {
  const auto create = [&]() -> absl::StatusOr<v1::Upload> {
    DW_ASSIGN_OR_RETURN(const std::string tenant,
                        TenantOfParent(parts_, *context, request->parent()));
    DW_RETURN_IF_ERROR(CheckDigest("digest", request->digest()));
    DW_ASSIGN_OR_RETURN(const std::optional<std::string> before,
                        parts_.metadata.FindRequest(tenant, "CreateUpload", *request));
    DW_ASSIGN_OR_RETURN(const Uploads::State state,
                        parts_.uploads.Create(tenant, request->digest(), request->size_bytes()));
    if (!before.has_value()) {
      const absl::Status recorded = parts_.metadata.RecordRequest(
          tenant, "CreateUpload", *request, state.row.name, parts_.clock.Now());
      // The same request came twice at the same time: both have the same answer.
      if (!recorded.ok() && !absl::IsAlreadyExists(recorded)) return recorded;
    }
    return ToProto(state);
  };
  return Answer(parts_, create(), response);
}

grpc::Status StoreService::WriteUpload(grpc::ServerContext* context,
                                       grpc::ServerReader<v1::WriteUploadRequest>* reader,
                                       v1::Upload* response) {
  return Answer(parts_, Write(parts_, *context, *reader), response);
}

grpc::Status StoreService::GetUpload(grpc::ServerContext* context,
                                     const v1::GetUploadRequest* request, v1::Upload* response) {
  const auto get = [&]() -> absl::StatusOr<v1::Upload> {
    DW_RETURN_IF_ERROR(CheckName(parts_, *context, request->name(), kUploadPattern));
    DW_ASSIGN_OR_RETURN(const Uploads::State state, parts_.uploads.Get(request->name()));
    return ToProto(state);
  };
  return Answer(parts_, get(), response);
}

grpc::Status StoreService::FindMissingBlobs(grpc::ServerContext* context,
                                            const v1::FindMissingBlobsRequest* request,
                                            v1::FindMissingBlobsResponse* response) {
  const auto find = [&]() -> absl::Status {
    DW_ASSIGN_OR_RETURN(const std::string tenant,
                        TenantOfParent(parts_, *context, request->parent()));
    if (request->digests_size() > kDigestsMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "digests is of length ", request->digests_size(), ", want at most ", kDigestsMax));
    }
    for (const std::string& digest : request->digests()) {
      DW_RETURN_IF_ERROR(CheckDigest("digests", digest));
    }
    DW_ASSIGN_OR_RETURN(
        const std::vector<std::string> missing,
        parts_.metadata.FindMissing(tenant, {request->digests().begin(), request->digests().end()},
                                    parts_.clock.Now()));
    response->mutable_missing_digests()->Assign(missing.begin(), missing.end());
    return absl::OkStatus();
  };
  return Answer(parts_, find());
}

// ---- Reading ----

grpc::Status StoreService::ReadBlob(grpc::ServerContext* context,
                                    const v1::ReadBlobRequest* request,
                                    grpc::ServerWriter<v1::ReadBlobResponse>* writer) {
  return Answer(parts_, Read(parts_, *context, *request, *writer));
}

grpc::Status StoreService::GetManifest(grpc::ServerContext* context,
                                       const v1::GetManifestRequest* request,
                                       v1::Manifest* response) {
  const auto get = [&]() -> absl::StatusOr<v1::Manifest> {
    DW_ASSIGN_OR_RETURN(const BlobReference blob, ReferenceOf(parts_, *context, *request));
    DW_ASSIGN_OR_RETURN(std::unique_ptr<BlobReader> reader, parts_.blobs.Open(blob));
    if (reader->size() > kManifestBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat(blob.digest, ": not a manifest"));
    }
    DW_ASSIGN_OR_RETURN(reader, parts_.blobs.OpenVerified(blob));
    DW_ASSIGN_OR_RETURN(const absl::string_view bytes, reader->Map());
    return ParseManifest(bytes, blob.digest);
  };
  return Answer(parts_, get(), response);
}

grpc::Status StoreService::ReportCorruptBlob(grpc::ServerContext* context,
                                             const v1::ReportCorruptBlobRequest* request,
                                             v1::ReportCorruptBlobResponse* response) {
  static constexpr char kRpc[] = "ReportCorruptBlob";
  static constexpr char kConfirmed[] = "confirmed";
  const auto report = [&]() -> absl::Status {
    DW_ASSIGN_OR_RETURN(const BlobReference blob, ReferenceOf(parts_, *context, *request));
    DW_ASSIGN_OR_RETURN(const std::optional<std::string> before,
                        parts_.metadata.FindRequest(blob.tenant, kRpc, *request));
    if (before.has_value()) {
      response->set_confirmed(*before == kConfirmed);
      return absl::OkStatus();
    }
    DW_ASSIGN_OR_RETURN(const WholeReads::Turn turn, parts_.whole_reads.Begin());
    DW_ASSIGN_OR_RETURN(const bool damaged, parts_.blobs.CheckDamaged(blob));
    response->set_confirmed(damaged);
    LogWarning("a reader reported a damaged blob", {{"digest", blob.digest},
                                                    {"request_id", request->request_id()},
                                                    {"offset", int64_t{request->offset()}},
                                                    {"confirmed", damaged ? "yes" : "no"}});
    const absl::Status recorded = parts_.metadata.RecordRequest(
        blob.tenant, kRpc, *request, damaged ? kConfirmed : "", parts_.clock.Now());
    return absl::IsAlreadyExists(recorded) ? absl::OkStatus() : recorded;
  };
  return Answer(parts_, report());
}

// ---- Pins ----

grpc::Status StoreService::CreatePin(grpc::ServerContext* context,
                                     const v1::CreatePinRequest* request, v1::Pin* response) {
  const auto create = [&]() -> absl::StatusOr<v1::Pin> {
    const v1::Pin& pin = request->pin();
    DW_ASSIGN_OR_RETURN(const std::string tenant,
                        CheckOwner(parts_, *context, "pin.owner", pin.owner()));
    DW_RETURN_IF_ERROR(CheckDigest("pin.digest", pin.digest()));
    DW_ASSIGN_OR_RETURN(
        const PinRow row,
        parts_.metadata.CreatePin(tenant, pin.owner(), pin.digest(), *request, parts_.clock.Now()));
    return ToProto(row);
  };
  return Answer(parts_, create(), response);
}

grpc::Status StoreService::DeletePin(grpc::ServerContext* context,
                                     const v1::DeletePinRequest* request,
                                     google::protobuf::Empty*) {
  const auto remove = [&]() -> absl::Status {
    DW_ASSIGN_OR_RETURN(const std::string tenant,
                        CheckOwner(parts_, *context, "owner", request->owner()));
    DW_RETURN_IF_ERROR(CheckDigest("digest", request->digest()));
    return parts_.metadata.DeletePin(tenant, request->owner(), request->digest(), *request,
                                     parts_.clock.Now());
  };
  return Answer(parts_, remove());
}

grpc::Status StoreService::ListPins(grpc::ServerContext* context,
                                    const v1::ListPinsRequest* request,
                                    v1::ListPinsResponse* response) {
  const auto list = [&]() -> absl::Status {
    DW_ASSIGN_OR_RETURN(const std::string tenant,
                        TenantOfParent(parts_, *context, request->parent()));
    DW_ASSIGN_OR_RETURN(const Page page, Page::Of(*request));
    PinRow after;
    if (!page.cursor.empty()) {
      const std::pair<std::string, std::string> parts = absl::StrSplit(page.cursor, '#');
      after.owner = parts.first;
      after.digest = parts.second;
    }
    DW_ASSIGN_OR_RETURN(
        std::vector<PinRow> pins,
        parts_.metadata.ListPins(tenant, request->owner_prefix(), after, page.size + 1));
    if (static_cast<int64_t>(pins.size()) > page.size) {
      pins.pop_back();
      response->set_next_page_token(
          page.NextToken(absl::StrCat(pins.back().owner, "#", pins.back().digest)));
    }
    for (const PinRow& pin : pins) *response->add_pins() = ToProto(pin);
    return absl::OkStatus();
  };
  return Answer(parts_, list());
}

}  // namespace deltaworks::services

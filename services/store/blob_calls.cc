#include "services/store/blob_calls.h"

#include <prometheus/counter.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "scheduler/proto_time.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/base/page_token.h"
#include "services/base/resource_names.h"
#include "services/store/metrics.h"
#include "trainer/base/status_macros.h"

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

// The tenant of a request's parent, if the caller may use it.
absl::StatusOr<std::string> TenantOfParent(const Caller& caller, const std::string& parent) {
  DW_ASSIGN_OR_RETURN(const auto ids, ParseName("parent", parent, kTenantPattern));
  DW_RETURN_IF_ERROR(CheckTenantOfParent(caller, parent));
  return ids[0];
}

// OK if it is an upload's name and the caller may see its tenant.
absl::Status CheckUploadName(const Caller& caller, const std::string& name) {
  DW_RETURN_IF_ERROR(ParseName("name", name, kUploadPattern).status());
  return CheckTenantOfName(caller, name);
}

// What a request says about a blob, checked. Foreign references are as absent as wrong digests.
template <typename Request>
absl::StatusOr<BlobReference> ReferenceOf(const Caller& caller, const Request& request) {
  DW_ASSIGN_OR_RETURN(const std::string tenant, TenantOfParent(caller, request.parent()));
  DW_RETURN_IF_ERROR(CheckDigest("digest", request.digest()));
  if (!request.reference().empty() && TenantOf(request.reference()) != tenant) {
    return NoSuchResource(request.digest());
  }
  return BlobReference{tenant, request.reference(), request.digest()};
}

// Whose pins a caller may make and drop: of its own tenant, and not those that the store makes.
absl::StatusOr<std::string> CheckOwner(const Caller& caller, absl::string_view field,
                                       const std::string& owner) {
  if (!MatchesName(owner, kJobPattern) && !MatchesName(owner, kVersionPattern)) {
    return absl::InvalidArgumentError(absl::StrCat(field, " is ", owner.substr(0, 200), ", want ",
                                                   kJobPattern, " or ", kVersionPattern));
  }
  DW_RETURN_IF_ERROR(CheckTenantOfParent(caller, owner, field));
  return std::string(TenantOf(owner));
}

}  // namespace

// ---- Uploads ----

absl::StatusOr<v1::Upload> BlobCalls::CreateUpload(const Caller& caller,
                                                   const v1::CreateUploadRequest& request) {
  DW_ASSIGN_OR_RETURN(const std::string tenant, TenantOfParent(caller, request.parent()));
  DW_RETURN_IF_ERROR(CheckDigest("digest", request.digest()));
  DW_ASSIGN_OR_RETURN(const std::optional<std::string> before,
                      metadata_.FindRequest(tenant, "CreateUpload", request));
  DW_ASSIGN_OR_RETURN(const Uploads::State state,
                      uploads_.Create(tenant, request.digest(), request.size_bytes()));
  if (!before.has_value()) {
    const absl::Status recorded =
        metadata_.RecordRequest(tenant, "CreateUpload", request, state.row.name, clock_.Now());
    // The same request came twice at the same time: both have the same answer.
    if (!recorded.ok() && !absl::IsAlreadyExists(recorded)) return recorded;
  }
  return ToProto(state);
}

absl::StatusOr<v1::Upload> BlobCalls::WriteUpload(const Caller& caller, NextWrite next) {
  v1::WriteUploadRequest request;
  if (!next(request)) {
    return absl::InvalidArgumentError("no message came, want one with the name of the upload");
  }
  DW_RETURN_IF_ERROR(CheckUploadName(caller, request.name()));
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<Uploads::Writer> writer,
                      uploads_.OpenWriter(request.name()));
  do {
    if (static_cast<int64_t>(request.data().size()) > kPieceBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("data has ", request.data().size(), " bytes, want at most ", kPieceBytes));
    }
    DW_RETURN_IF_ERROR(writer->Write(request.offset(), request.data()));
  } while (next(request));
  // Also after a cut: what has come counts, and may be all.
  DW_ASSIGN_OR_RETURN(const Uploads::State state, writer->Finish());
  return ToProto(state);
}

absl::StatusOr<v1::Upload> BlobCalls::GetUpload(const Caller& caller,
                                                const v1::GetUploadRequest& request) {
  DW_RETURN_IF_ERROR(CheckUploadName(caller, request.name()));
  DW_ASSIGN_OR_RETURN(const Uploads::State state, uploads_.Get(request.name()));
  return ToProto(state);
}

absl::StatusOr<v1::FindMissingBlobsResponse> BlobCalls::FindMissingBlobs(
    const Caller& caller, const v1::FindMissingBlobsRequest& request) {
  DW_ASSIGN_OR_RETURN(const std::string tenant, TenantOfParent(caller, request.parent()));
  if (request.digests_size() > kDigestsMax) {
    return absl::InvalidArgumentError(absl::StrCat("digests is of length ", request.digests_size(),
                                                   ", want at most ", kDigestsMax));
  }
  for (const std::string& digest : request.digests()) {
    DW_RETURN_IF_ERROR(CheckDigest("digests", digest));
  }
  DW_ASSIGN_OR_RETURN(
      const std::vector<std::string> missing,
      metadata_.FindMissing(tenant, {request.digests().begin(), request.digests().end()},
                            clock_.Now()));
  v1::FindMissingBlobsResponse response;
  response.mutable_missing_digests()->Assign(missing.begin(), missing.end());
  return response;
}

// ---- Reading ----

absl::Status BlobCalls::ReadBlob(const Caller& caller, const v1::ReadBlobRequest& request,
                                 ReadSink sink) {
  DW_ASSIGN_OR_RETURN(const BlobReference blob, ReferenceOf(caller, request));
  if (request.offset() < 0 || request.length_bytes() < 0) {
    return absl::InvalidArgumentError(absl::StrCat("offset is ", request.offset(),
                                                   " and length_bytes is ", request.length_bytes(),
                                                   ", want at least 0"));
  }
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, blobs_.Open(blob));
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
    if (!sink(response)) return absl::CancelledError("the reader went away");
    metrics_.read_bytes.Increment(static_cast<double>(count));
    response.clear_size_bytes();
    offset += count;
    left -= count;
  } while (left > 0);
  return absl::OkStatus();
}

absl::StatusOr<v1::Manifest> BlobCalls::GetManifest(const Caller& caller,
                                                    const v1::GetManifestRequest& request) {
  DW_ASSIGN_OR_RETURN(const BlobReference blob, ReferenceOf(caller, request));
  DW_ASSIGN_OR_RETURN(std::unique_ptr<BlobReader> reader, blobs_.Open(blob));
  if (reader->size() > kManifestBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(blob.digest, ": not a manifest"));
  }
  DW_ASSIGN_OR_RETURN(reader, blobs_.OpenVerified(blob));
  DW_ASSIGN_OR_RETURN(const absl::string_view bytes, reader->Map());
  return ParseManifest(bytes, blob.digest);
}

absl::StatusOr<v1::ReportCorruptBlobResponse> BlobCalls::ReportCorruptBlob(
    const Caller& caller, const v1::ReportCorruptBlobRequest& request) {
  static constexpr char kRpc[] = "ReportCorruptBlob";
  static constexpr char kConfirmed[] = "confirmed";
  DW_ASSIGN_OR_RETURN(const BlobReference blob, ReferenceOf(caller, request));
  DW_ASSIGN_OR_RETURN(const std::optional<std::string> before,
                      metadata_.FindRequest(blob.tenant, kRpc, request));
  v1::ReportCorruptBlobResponse response;
  if (before.has_value()) {
    response.set_confirmed(*before == kConfirmed);
    return response;
  }
  DW_ASSIGN_OR_RETURN(const WholeReads::Turn turn, whole_reads_.Begin());
  DW_ASSIGN_OR_RETURN(const bool damaged, blobs_.CheckDamaged(blob));
  response.set_confirmed(damaged);
  LogWarning("a reader reported a damaged blob", {{"digest", blob.digest},
                                                  {"request_id", request.request_id()},
                                                  {"offset", int64_t{request.offset()}},
                                                  {"confirmed", damaged ? "yes" : "no"}});
  const absl::Status recorded =
      metadata_.RecordRequest(blob.tenant, kRpc, request, damaged ? kConfirmed : "", clock_.Now());
  if (!recorded.ok() && !absl::IsAlreadyExists(recorded)) return recorded;
  return response;
}

// ---- Pins ----

absl::StatusOr<v1::Pin> BlobCalls::CreatePin(const Caller& caller,
                                             const v1::CreatePinRequest& request) {
  const v1::Pin& pin = request.pin();
  DW_ASSIGN_OR_RETURN(const std::string tenant, CheckOwner(caller, "pin.owner", pin.owner()));
  DW_RETURN_IF_ERROR(CheckDigest("pin.digest", pin.digest()));
  DW_ASSIGN_OR_RETURN(const PinRow row, metadata_.CreatePin(tenant, pin.owner(), pin.digest(),
                                                            request, clock_.Now()));
  return ToProto(row);
}

absl::Status BlobCalls::DeletePin(const Caller& caller, const v1::DeletePinRequest& request) {
  DW_ASSIGN_OR_RETURN(const std::string tenant, CheckOwner(caller, "owner", request.owner()));
  DW_RETURN_IF_ERROR(CheckDigest("digest", request.digest()));
  return metadata_.DeletePin(tenant, request.owner(), request.digest(), request, clock_.Now());
}

absl::StatusOr<v1::ListPinsResponse> BlobCalls::ListPins(const Caller& caller,
                                                         const v1::ListPinsRequest& request) {
  DW_ASSIGN_OR_RETURN(const std::string tenant, TenantOfParent(caller, request.parent()));
  DW_ASSIGN_OR_RETURN(const Page page, Page::Of(request));
  PinRow after;
  if (!page.cursor.empty()) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(page.cursor, '#');
    after.owner = parts.first;
    after.digest = parts.second;
  }
  DW_ASSIGN_OR_RETURN(std::vector<PinRow> pins,
                      metadata_.ListPins(tenant, request.owner_prefix(), after, page.size + 1));
  v1::ListPinsResponse response;
  if (static_cast<int64_t>(pins.size()) > page.size) {
    pins.pop_back();
    response.set_next_page_token(
        page.NextToken(absl::StrCat(pins.back().owner, "#", pins.back().digest)));
  }
  for (const PinRow& pin : pins) *response.add_pins() = ToProto(pin);
  return response;
}

}  // namespace deltaworks::services

#include "services/registry/verified_blob_reader.h"

#include <prometheus/counter.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

v1::ReadBlobRequest Request(const std::string& tenant, const std::string& digest) {
  v1::ReadBlobRequest request;
  request.set_parent(TenantName(tenant));
  request.set_digest(digest);
  return request;
}

absl::Status Differs(const std::string& digest, const std::string& got, const std::string& want) {
  return absl::DataLossError(
      absl::StrCat("blob ", digest, ": its bytes have digest ", got, ", want ", want));
}

}  // namespace

absl::Status FromStore(const absl::Status& status) {
  if (status.ok() || absl::IsNotFound(status) || absl::IsDataLoss(status)) return status;
  if (absl::StartsWith(status.message(), "store")) {
    return absl::UnavailableError(status.message());
  }
  return absl::UnavailableError(absl::StrCat("store: ", status.ToString()));
}

absl::StatusOr<WholeBlob> VerifiedBlobReader::Read(const std::string& tenant,
                                                   const std::string& digest,
                                                   int64_t size_max) const {
  return ReadWhole(tenant, digest, /*keep=*/true, size_max);
}

absl::StatusOr<WholeBlob> VerifiedBlobReader::Verify(const std::string& tenant,
                                                     const std::string& digest) const {
  return ReadWhole(tenant, digest, /*keep=*/false, 0);
}

absl::StatusOr<WholeBlob> VerifiedBlobReader::ReadWhole(const std::string& tenant,
                                                        const std::string& digest, bool keep,
                                                        int64_t size_max) const {
  absl::Status seen;
  for (int attempt = 0; attempt < 2; ++attempt) {
    WholeBlob blob;
    ChunkDigester digester;
    bool too_large = false;
    seen = store_.ReadBlob(Request(tenant, digest), [&](absl::string_view piece) {
      too_large = keep && static_cast<int64_t>(blob.bytes.size() + piece.size()) > size_max;
      if (too_large) return absl::CancelledError();
      if (keep) blob.bytes.append(piece.data(), piece.size());
      digester.Update(piece);
      return absl::OkStatus();
    });
    if (too_large) {
      return absl::ResourceExhaustedError(absl::StrCat("blob ", digest, ": has more than ",
                                                       size_max, " bytes, want at most those"));
    }
    if (seen.ok()) {
      digester.Finish(blob.file);
      if (blob.file.digest() == digest) return blob;
      seen = Differs(digest, blob.file.digest(), digest);
    } else if (!absl::IsDataLoss(seen)) {
      return FromStore(seen);
    }
    DW_RETURN_IF_ERROR(Report(tenant, digest, 0, seen));
  }
  return absl::UnavailableError(absl::StrCat(seen.message(), "; the store finds it whole"));
}

absl::StatusOr<std::string> VerifiedBlobReader::ReadChunk(const std::string& tenant,
                                                          const std::string& digest, int64_t offset,
                                                          int64_t length,
                                                          const std::string& chunk_digest) const {
  absl::Status seen;
  for (int attempt = 0; attempt < 2; ++attempt) {
    v1::ReadBlobRequest request = Request(tenant, digest);
    request.set_offset(offset);
    request.set_length_bytes(length);
    std::string bytes;
    seen = store_.ReadBlob(request, [&](absl::string_view piece) {
      if (static_cast<int64_t>(bytes.size() + piece.size()) > length) {
        return absl::InternalError(
            absl::StrCat("sent more than the ", length, " bytes asked for of ", digest));
      }
      bytes.append(piece.data(), piece.size());
      return absl::OkStatus();
    });
    if (seen.ok()) {
      const std::string got = Sha256Digest(bytes);
      if (got == chunk_digest) return bytes;
      seen = Differs(absl::StrCat(digest, " at offset ", offset), got, chunk_digest);
    } else if (!absl::IsDataLoss(seen)) {
      return FromStore(seen);
    }
    DW_RETURN_IF_ERROR(Report(tenant, digest, offset, seen));
  }
  return absl::UnavailableError(absl::StrCat(seen.message(), "; the store finds it whole"));
}

absl::Status VerifiedBlobReader::Report(const std::string& tenant, const std::string& digest,
                                        int64_t offset, const absl::Status& seen) const {
  metrics_.damaged_reads.Increment();
  LogWarning("a blob was read damaged", {{"tenant", tenant}, {"digest", digest}, {"error", seen}});
  v1::ReportCorruptBlobRequest request;
  request.set_parent(TenantName(tenant));
  request.set_digest(digest);
  request.set_offset(offset);
  const auto answer = store_.ReportCorruptBlob(request);
  // Absent by now: a report before this one was confirmed.
  if (absl::IsNotFound(answer.status()) || absl::IsDataLoss(answer.status())) {
    return absl::DataLossError(seen.message());
  }
  if (!answer.ok()) return FromStore(answer.status());
  return answer->confirmed() ? absl::DataLossError(seen.message()) : absl::OkStatus();
}

}  // namespace deltaworks::services

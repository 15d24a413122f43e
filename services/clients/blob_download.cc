// The download half of blob_transfer.h.

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/base/resource_names.h"
#include "services/clients/blob_transfer.h"
#include "services/clients/part_file.h"
#include "services/clients/retry.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int kChunkAttempts = 2;

// Cuts a stream of pieces into chunks and hands on those that match their digest.
class ChunkVerifier {
 public:
  ChunkVerifier(const v1::ManifestFile& file, TakeChunk accept)
      : file_(file), accept_(std::move(accept)) {}

  // Where the next stream must begin: all before is verified and handed on.
  int64_t offset() const { return offset_; }
  void Start(int64_t offset) {
    offset_ = offset;
    chunk_.clear();
  }

  absl::Status Take(absl::string_view piece) {
    while (!piece.empty()) {
      const int64_t want = ChunkSize() - static_cast<int64_t>(chunk_.size());
      if (want <= 0) return TooLong();
      const absl::string_view part = piece.substr(0, static_cast<size_t>(want));
      chunk_.append(part.data(), part.size());
      piece.remove_prefix(part.size());
      if (static_cast<int64_t>(chunk_.size()) == ChunkSize()) DW_RETURN_IF_ERROR(Complete());
    }
    return absl::OkStatus();
  }

 private:
  int64_t ChunkSize() const { return std::min(kChunkBytes, file_.size_bytes() - offset_); }

  absl::Status Complete() {
    const std::string& want = file_.chunk_digests(static_cast<int>(offset_ / kChunkBytes));
    const std::string got = Sha256Digest(chunk_);
    if (got != want) {
      return absl::DataLossError(absl::StrCat(file_.path(), " (", file_.digest(), "): chunk at ",
                                              offset_, " is ", got, ", want ", want));
    }
    DW_RETURN_IF_ERROR(accept_(offset_, chunk_));
    offset_ += static_cast<int64_t>(chunk_.size());
    chunk_.clear();
    return absl::OkStatus();
  }

  absl::Status TooLong() const {
    return absl::DataLossError(absl::StrCat(file_.path(), " (", file_.digest(),
                                            "): more bytes than ", file_.size_bytes()));
  }

  const v1::ManifestFile& file_;
  const TakeChunk accept_;
  int64_t offset_ = 0;
  std::string chunk_;
};

void Report(StoreClient& store, const BlobAccess& access, const v1::ManifestFile& file,
            int64_t offset) {
  v1::ReportCorruptBlobRequest request;
  request.set_parent(TenantName(access.tenant));
  request.set_digest(file.digest());
  request.set_reference(access.reference);
  request.set_offset(offset);
  const auto response = store.ReportCorruptBlob(request);
  LogError("a blob failed verification",
           {{"digest", file.digest()},
            {"offset", offset},
            {"confirmed", response.ok() ? (response->confirmed() ? "yes" : "no") : "unknown"}});
}

// Streams what lies after verifier.offset() until all is verified.
absl::Status Fetch(StoreClient& store, const BlobAccess& access, const v1::ManifestFile& file,
                   const TransferOptions& options, ChunkVerifier& verifier) {
  v1::ReadBlobRequest request;
  request.set_parent(TenantName(access.tenant));
  request.set_digest(file.digest());
  request.set_reference(access.reference);
  RetryState retry(options.retry);
  int wrong = 0;
  while (verifier.offset() < file.size_bytes()) {
    const int64_t before = verifier.offset();
    request.set_offset(before);
    absl::Status status = store.ReadBlob(request, [&](absl::string_view piece) {
      if (options.received != nullptr) options.received(static_cast<int64_t>(piece.size()));
      DW_RETURN_IF_ERROR(verifier.Take(piece));
      return options.progress == nullptr ? absl::OkStatus()
                                         : options.progress(verifier.offset(), file.size_bytes());
    });
    // Even then the stream may have gone on: the manifest's size is a lie.
    if (verifier.offset() == file.size_bytes())
      return absl::IsDataLoss(status) ? status : absl::OkStatus();
    verifier.Start(verifier.offset());
    if (verifier.offset() > before) {
      retry.Progressed();
      wrong = 0;
    }
    if (absl::IsDataLoss(status)) {
      if (++wrong < kChunkAttempts) continue;
      Report(store, access, file, verifier.offset());
      return status;
    }
    // A stream that ends early without an error was cut by somebody between us.
    if (status.ok()) status = absl::UnavailableError("the stream ended early");
    if (!absl::IsUnavailable(status)) return status;
    if (verifier.offset() == before && !retry.Pause()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckChunks(const v1::ManifestFile& file) {
  const int64_t want = (file.size_bytes() + kChunkBytes - 1) / kChunkBytes;
  if (file.size_bytes() >= 0 && file.chunk_digests_size() == want) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(file.path(), ": ", file.chunk_digests_size(),
                                                 " chunk digests for ", file.size_bytes(),
                                                 " bytes, want ", want));
}

}  // namespace

bool IsThere(const v1::ManifestFile& file, const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0 || info.st_size != file.size_bytes()) return false;
  const auto mapped = MappedFile::Open(path);
  return mapped.ok() && Sha256Digest((*mapped)->bytes()) == file.digest();
}

absl::Status StreamFile(StoreClient& store, const BlobAccess& access, const v1::ManifestFile& file,
                        int64_t offset, TakeChunk take, const TransferOptions& options) {
  DW_RETURN_IF_ERROR(CheckChunks(file));
  ChunkVerifier verifier(file, std::move(take));
  verifier.Start(offset);
  return Fetch(store, access, file, options, verifier);
}

absl::Status DownloadFile(StoreClient& store, const BlobAccess& access,
                          const v1::ManifestFile& file, const std::string& path,
                          const TransferOptions& options) {
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<PartFile> part, PartFile::Open(path));
  DW_ASSIGN_OR_RETURN(const int64_t kept, part->KeepVerified(file));
  DW_RETURN_IF_ERROR(StreamFile(
      store, access, file, kept,
      [&](int64_t offset, absl::string_view chunk) { return part->Append(offset, chunk); },
      options));
  return part->Finish();
}

absl::Status DownloadFiles(StoreClient& store, const BlobAccess& access,
                           const v1::Manifest& manifest, const std::string& folder,
                           const TransferOptions& options) {
  int64_t total = 0;
  for (const v1::ManifestFile& file : manifest.files()) total += file.size_bytes();
  int64_t done = 0;
  for (const v1::ManifestFile& file : manifest.files()) {
    // The paths come from the network.
    DW_RETURN_IF_ERROR(CheckManifestPath(file.path()));
    const std::string path = absl::StrCat(folder, "/", file.path());
    DW_RETURN_IF_ERROR(MakeDirectories(std::filesystem::path(path).parent_path().string()));
    if (!IsThere(file, path)) {
      TransferOptions inner = options;
      if (options.progress != nullptr) {
        inner.progress = [&](int64_t now, int64_t) { return options.progress(done + now, total); };
      }
      DW_RETURN_IF_ERROR(DownloadFile(store, access, file, path, inner));
    }
    done += file.size_bytes();
    if (options.progress != nullptr) DW_RETURN_IF_ERROR(options.progress(done, total));
  }
  return absl::OkStatus();
}

TransferOptions CancelledBy(std::function<bool()> cancelled) {
  TransferOptions options;
  options.retry.monotonic = [cancelled] {
    return cancelled() ? absl::InfiniteDuration() : RealClock().Monotonic();
  };
  options.progress = [cancelled = std::move(cancelled)](int64_t, int64_t) {
    return cancelled() ? absl::CancelledError("no longer wanted") : absl::OkStatus();
  };
  return options;
}

absl::StatusOr<std::string> DownloadBytes(StoreClient& store, const BlobAccess& access,
                                          const std::string& digest, int64_t size_max,
                                          const TransferOptions& options) {
  v1::ReadBlobRequest request;
  request.set_parent(TenantName(access.tenant));
  request.set_digest(digest);
  request.set_reference(access.reference);
  std::string data;
  // Without chunk digests only the whole can be checked, so a cut stream begins anew.
  DW_RETURN_IF_ERROR(CallWithRetry(options.retry, [&] {
    data.clear();
    return store.ReadBlob(request, [&](absl::string_view piece) {
      if (options.received != nullptr) options.received(static_cast<int64_t>(piece.size()));
      if (static_cast<int64_t>(data.size() + piece.size()) > size_max) {
        return absl::ResourceExhaustedError(absl::StrCat(
            digest, ": larger than ", size_max, " bytes, the most that is read into memory"));
      }
      data.append(piece.data(), piece.size());
      if (options.progress == nullptr) return absl::OkStatus();
      return options.progress(static_cast<int64_t>(data.size()), size_max);
    });
  }));
  if (const std::string got = Sha256Digest(data); got != digest) {
    v1::ManifestFile file;
    file.set_digest(digest);
    Report(store, access, file, 0);
    return absl::DataLossError(absl::StrCat("blob is ", got, ", want ", digest));
  }
  return data;
}

}  // namespace deltaworks::services

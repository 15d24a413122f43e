// BaseCache::EnsureInGang: what the nodes of a gang lack comes once from the store.
//
// File by file: everybody tells how many bytes from its beginning he has, verified. From where the
// first of those that lack some ends, who has most (the lowest rank of several) broadcasts the rest
// in chunks: his own, then as they come from the store. So all broadcast the same whatever each
// has. Whoever does not have the node's lock takes part without writing, and waits for the other
// then.

#include <prometheus/counter.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/base/file_lock.h"
#include "services/base/manifest.h"
#include "services/clients/base_cache.h"
#include "services/clients/part_file.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// Nobody counts on his bytes, nor sends him any.
constexpr int64_t kTakesNone = -1;

// The number of each rank.
absl::StatusOr<std::vector<int64_t>> Gather(trainer::Communicator& gang, int64_t mine) {
  std::vector<int64_t> all(static_cast<size_t>(gang.size()), mine);
  for (int rank = 0; rank < gang.size(); ++rank) {
    DW_RETURN_IF_ERROR(gang.Broadcast(&all[static_cast<size_t>(rank)], sizeof(int64_t), rank));
  }
  return all;
}

// One file of the base on its way through the gang.
class GangFile {
 public:
  // `part`: where to write, or nullptr; `have`: bytes from the beginning that are at `path` or in
  // `part`, or kTakesNone.
  GangFile(const v1::ManifestFile& file, const std::string& path, PartFile* part, int64_t have,
           trainer::Communicator& gang)
      : file_(file), path_(path), part_(part), have_(have), gang_(gang) {}

  // `fetch(offset, take)` streams the file from the store.
  using Fetch = std::function<absl::Status(int64_t offset, TakeChunk take)>;
  absl::Status Share(const Fetch& fetch, const std::function<bool()>& cancelled,
                     const std::function<void(int64_t bytes)>& received) {
    DW_ASSIGN_OR_RETURN(const std::vector<int64_t> all, Gather(gang_, have_));
    int64_t from = file_.size_bytes();
    for (const int64_t have : all) from = have == kTakesNone ? from : std::min(from, have);
    if (from == file_.size_bytes()) return absl::OkStatus();
    const auto most = std::max_element(all.begin(), all.end());
    const int root = static_cast<int>(most - all.begin());
    if (root == gang_.rank()) return Send(from, fetch, cancelled);
    for (int64_t offset = from; offset < file_.size_bytes(); offset += kChunkBytes) {
      DW_RETURN_IF_ERROR(Receive(offset, root));
      received(static_cast<int64_t>(chunk_.size()));
    }
    return absl::OkStatus();
  }

 private:
  void ResizeChunk(int64_t offset) {
    chunk_.resize(static_cast<size_t>(std::min(kChunkBytes, file_.size_bytes() - offset)));
  }

  absl::Status Broadcast(int root) {
    return gang_.Broadcast(chunk_.data(), static_cast<int64_t>(chunk_.size()), root);
  }

  absl::Status Send(int64_t from, const Fetch& fetch, const std::function<bool()>& cancelled) {
    for (int64_t offset = from; offset < have_; offset += kChunkBytes) {
      if (cancelled()) return absl::CancelledError("no longer wanted");
      ResizeChunk(offset);
      DW_RETURN_IF_ERROR(ReadOwn(offset));
      DW_RETURN_IF_ERROR(Broadcast(gang_.rank()));
    }
    if (have_ == file_.size_bytes()) return absl::OkStatus();
    return fetch(have_, [&](int64_t offset, absl::string_view chunk) -> absl::Status {
      DW_RETURN_IF_ERROR(part_->Append(offset, chunk));
      chunk_.assign(chunk.data(), chunk.size());
      return Broadcast(gang_.rank());
    });
  }

  absl::Status ReadOwn(int64_t offset) {
    if (part_ != nullptr) return part_->Read(offset, &chunk_);
    if (own_ == nullptr) {
      DW_ASSIGN_OR_RETURN(own_, MappedFile::Open(path_));
    }
    const absl::string_view bytes = own_->bytes();
    if (static_cast<int64_t>(bytes.size()) < offset + static_cast<int64_t>(chunk_.size())) {
      return absl::DataLossError(
          absl::StrCat(path_, ": ", bytes.size(), " bytes, want ", file_.size_bytes()));
    }
    chunk_.assign(bytes.data() + offset, chunk_.size());
    return absl::OkStatus();
  }

  absl::Status Receive(int64_t offset, int root) {
    ResizeChunk(offset);
    DW_RETURN_IF_ERROR(Broadcast(root));
    if (part_ == nullptr || offset < have_) return absl::OkStatus();
    const std::string got = Sha256Digest(chunk_);
    const std::string& want = file_.chunk_digests(static_cast<int>(offset / kChunkBytes));
    if (got != want) {
      return absl::DataLossError(absl::StrCat(file_.path(), ": the chunk at ", offset,
                                              " that rank ", root, " sent is ", got, ", want ",
                                              want));
    }
    return part_->Append(offset, chunk_);
  }

  const v1::ManifestFile& file_;
  const std::string& path_;
  PartFile* const part_;
  const int64_t have_;
  trainer::Communicator& gang_;
  std::unique_ptr<MappedFile> own_;  // The one at `path`, once it is read.
  std::string chunk_;
};

}  // namespace

absl::StatusOr<std::string> BaseCache::ShareManifest(const BlobAccess& access,
                                                     const std::string& manifest_digest,
                                                     const TransferOptions& options,
                                                     trainer::Communicator& gang) {
  std::string bytes;
  if (gang.rank() == 0) {
    DW_ASSIGN_OR_RETURN(bytes,
                        DownloadBytes(store_, access, manifest_digest, kManifestBytesMax, options));
  }
  auto size = static_cast<int64_t>(bytes.size());
  DW_RETURN_IF_ERROR(gang.Broadcast(&size, sizeof(size), 0));
  if (size < 0 || size > kManifestBytesMax) {
    return absl::DataLossError(absl::StrCat("the manifest that rank 0 sent has ", size,
                                            " bytes, want at most ", kManifestBytesMax));
  }
  bytes.resize(static_cast<size_t>(size));
  DW_RETURN_IF_ERROR(gang.Broadcast(bytes.data(), size, 0));
  if (const std::string got = Sha256Digest(bytes); got != manifest_digest) {
    return absl::DataLossError(
        absl::StrCat("the manifest that rank 0 sent is ", got, ", want ", manifest_digest));
  }
  return bytes;
}

absl::Status BaseCache::ShareFiles(const BlobAccess& access, const v1::Manifest& manifest,
                                   const std::string& folder, InGang mine,
                                   const TransferOptions& options,
                                   const std::function<bool()>& cancelled,
                                   trainer::Communicator& gang) {
  for (const v1::ManifestFile& file : manifest.files()) {
    DW_RETURN_IF_ERROR(CheckManifestPath(file.path()));  // It comes from the network.
    const std::string path = absl::StrCat(folder, "/", file.path());
    std::unique_ptr<PartFile> part;
    int64_t have = mine == InGang::kWhole ? file.size_bytes() : kTakesNone;
    if (mine == InGang::kWrites) {
      DW_RETURN_IF_ERROR(MakeDirectories(std::filesystem::path(path).parent_path().string()));
      have = file.size_bytes();
      if (!IsThere(file, path)) {
        DW_ASSIGN_OR_RETURN(part, PartFile::Open(path));
        DW_ASSIGN_OR_RETURN(have, part->KeepVerified(file));
      }
    }
    const auto fetch = [&](int64_t offset, TakeChunk take) {
      return StreamFile(store_, access, file, offset, std::move(take), options);
    };
    DW_RETURN_IF_ERROR(
        GangFile(file, path, part.get(), have, gang).Share(fetch, cancelled, [this](int64_t bytes) {
          bytes_from_gang_.Increment(static_cast<double>(bytes));
        }));
    if (part != nullptr) DW_RETURN_IF_ERROR(part->Finish());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> BaseCache::EnsureInGang(const BlobAccess& access,
                                                    const std::string& manifest_digest,
                                                    const std::function<bool()>& cancelled,
                                                    trainer::Communicator& gang) {
  DW_ASSIGN_OR_RETURN(const std::string folder, FolderOf(manifest_digest));
  const TransferOptions options = TransferOptionsOf(cancelled);
  absl::StatusOr<FileLock> lock = FileLock::TryAcquire(folder + ".lock");
  if (!lock.ok() && !absl::IsFailedPrecondition(lock.status())) return lock.status();
  DW_ASSIGN_OR_RETURN(const std::string bytes,
                      ShareManifest(access, manifest_digest, options, gang));
  DW_ASSIGN_OR_RETURN(const v1::Manifest manifest, ParseBaseManifest(bytes, manifest_digest));

  std::error_code error;
  const bool exists = std::filesystem::exists(folder, error);
  InGang mine = lock.ok() ? InGang::kWrites : InGang::kWaits;
  if (IsVerified(manifest_digest, folder) || (lock.ok() && exists && IsIntact(manifest, folder))) {
    mine = InGang::kWhole;
  }
  const std::string into = exists ? folder : folder + ".part";
  DW_RETURN_IF_ERROR(ShareFiles(access, manifest, into, mine, options, cancelled, gang));
  if (mine == InGang::kWaits) return Ensure(access, manifest_digest, cancelled);
  if (into != folder && std::rename(into.c_str(), folder.c_str()) != 0) {
    return ErrnoStatus(errno, folder, "rename");
  }
  SetVerified(manifest_digest);
  return folder;
}

}  // namespace deltaworks::services

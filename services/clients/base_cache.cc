#include "services/clients/base_cache.h"

#include <prometheus/counter.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "services/base/file_lock.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr absl::string_view kDigestPrefix = "sha256:";
constexpr size_t kBasesListedMax = 1'000;
constexpr absl::Duration kLockPoll = absl::Milliseconds(50);

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

// Waits while another worker of the node fetches.
absl::StatusOr<FileLock> Lock(const std::string& path, const std::function<bool()>& cancelled) {
  while (true) {
    absl::StatusOr<FileLock> lock = FileLock::TryAcquire(path);
    if (lock.ok() || !absl::IsFailedPrecondition(lock.status())) return lock;
    if (cancelled()) return absl::CancelledError(absl::StrCat(path, ": no longer wanted"));
    absl::SleepFor(kLockPoll);
  }
}

// "chunk at 4194304 is sha256:..., want sha256:..."; nullopt if all is as it should be.
std::optional<std::string> FindDamage(const v1::ManifestFile& file, const std::string& path) {
  const absl::StatusOr<std::unique_ptr<MappedFile>> mapped = MappedFile::Open(path);
  if (!mapped.ok()) return std::string(mapped.status().message());
  const absl::string_view bytes = (*mapped)->bytes();
  if (static_cast<int64_t>(bytes.size()) != file.size_bytes()) {
    return absl::StrCat(bytes.size(), " bytes, want ", file.size_bytes());
  }
  for (int i = 0; i < file.chunk_digests_size(); ++i) {
    const auto begin = static_cast<size_t>(i * kChunkBytes);
    if (begin > bytes.size()) break;
    const std::string got = Sha256Digest(bytes.substr(begin, kChunkBytes));
    if (got != file.chunk_digests(i)) {
      return absl::StrCat("chunk at ", begin, " is ", got, ", want ", file.chunk_digests(i));
    }
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<v1::Manifest> ParseBaseManifest(const std::string& bytes,
                                               const std::string& manifest_digest) {
  DW_ASSIGN_OR_RETURN(v1::Manifest manifest, ParseManifest(bytes, manifest_digest));
  if (manifest.kind() == v1::Manifest::BASE_MODEL) return manifest;
  return absl::InvalidArgumentError(absl::StrCat(manifest_digest, " is a manifest of kind ",
                                                 v1::Manifest::Kind_Name(manifest.kind()),
                                                 ", want BASE_MODEL"));
}

BaseCache::BaseCache(std::string folder, StoreClient& store, Metrics& metrics)
    : folder_(std::move(folder)),
      store_(store),
      bytes_fetched_(
          metrics.Counter("deltaworks_base_cache_fetched_bytes_total",
                          "Bytes of base models and their manifests that the store sent")),
      bytes_from_gang_(metrics.Counter("deltaworks_base_cache_gang_bytes_total",
                                       "Bytes of base models that another member of a gang sent")),
      chunks_corrupt_(metrics.Counter(
          "deltaworks_base_cache_corrupt_files_total",
          "Files of base models, found in the cache, that did not match their digest")) {}

TransferOptions BaseCache::TransferOptionsOf(const std::function<bool()>& cancelled) {
  TransferOptions options = CancelledBy(cancelled);
  options.received = [this](int64_t bytes) {
    bytes_fetched_.Increment(static_cast<double>(bytes));
  };
  return options;
}

bool BaseCache::IsVerified(const std::string& manifest_digest, const std::string& folder) {
  MutexLock guard(&mutex_);
  return verified_.contains(manifest_digest) && Exists(folder);
}

void BaseCache::SetVerified(const std::string& manifest_digest) {
  MutexLock guard(&mutex_);
  verified_.insert(manifest_digest);
}

absl::StatusOr<std::string> BaseCache::FolderOf(const std::string& manifest_digest) const {
  if (!IsSha256Digest(manifest_digest)) {
    return absl::InvalidArgumentError(
        absl::StrCat("base_manifest_digest is \"", manifest_digest, "\", want sha256:..."));
  }
  DW_RETURN_IF_ERROR(MakeDirectories(absl::StrCat(folder_, "/bases")));
  return absl::StrCat(folder_, "/bases/", manifest_digest.substr(kDigestPrefix.size()));
}

absl::StatusOr<std::string> BaseCache::Ensure(const BlobAccess& access,
                                              const std::string& manifest_digest,
                                              const std::function<bool()>& cancelled) {
  DW_ASSIGN_OR_RETURN(const std::string folder, FolderOf(manifest_digest));
  DW_ASSIGN_OR_RETURN(const FileLock lock, Lock(folder + ".lock", cancelled));
  if (IsVerified(manifest_digest, folder)) return folder;
  DW_RETURN_IF_ERROR(FetchOrRepair(access, manifest_digest, folder, TransferOptionsOf(cancelled)));
  SetVerified(manifest_digest);
  return folder;
}

absl::Status BaseCache::FetchOrRepair(const BlobAccess& access, const std::string& manifest_digest,
                                      const std::string& folder, const TransferOptions& options) {
  DW_ASSIGN_OR_RETURN(const std::string bytes,
                      DownloadBytes(store_, access, manifest_digest, kManifestBytesMax, options));
  DW_ASSIGN_OR_RETURN(const v1::Manifest manifest, ParseBaseManifest(bytes, manifest_digest));
  if (Exists(folder)) {
    if (IsIntact(manifest, folder)) return absl::OkStatus();
    return DownloadFiles(store_, access, manifest, folder, options);
  }
  const std::string part = folder + ".part";
  DW_RETURN_IF_ERROR(DownloadFiles(store_, access, manifest, part, options));
  if (std::rename(part.c_str(), folder.c_str()) != 0) return ErrnoStatus(errno, folder, "rename");
  return absl::OkStatus();
}

bool BaseCache::IsIntact(const v1::Manifest& manifest, const std::string& folder) {
  bool intact = true;
  for (const v1::ManifestFile& file : manifest.files()) {
    const std::string path = absl::StrCat(folder, "/", file.path());
    const std::optional<std::string> damage = FindDamage(file, path);
    if (!damage.has_value()) continue;
    intact = false;
    chunks_corrupt_.Increment();
    LogWarning("a file of the base cache is damaged and is fetched again",
               {{"name", path}, {"error", *damage}});
  }
  return intact;
}

std::vector<std::string> BaseCache::List() const {
  std::vector<std::string> digests;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(absl::StrCat(folder_, "/bases"), error), end;
       !error && entry != end; entry.increment(error)) {
    std::string digest = absl::StrCat(kDigestPrefix, entry->path().filename().string());
    if (IsSha256Digest(digest)) digests.push_back(std::move(digest));
  }
  std::sort(digests.begin(), digests.end());
  if (digests.size() > kBasesListedMax) digests.resize(kBasesListedMax);
  return digests;
}

}  // namespace deltaworks::services

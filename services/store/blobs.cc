#include "services/store/blobs.h"

#include <prometheus/counter.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/clock.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/base/random_id.h"
#include "services/store/metrics.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// An upload races against collection of the same digest at most this often.
constexpr int kPromoteAttempts = 5;

// The digests that the blob names, if it is a manifest.
absl::StatusOr<std::vector<std::string>> MembersOf(BlobReader& reader) {
  std::vector<std::string> members;
  if (reader.size() > kManifestBytesMax) return members;
  DW_ASSIGN_OR_RETURN(const absl::string_view bytes, reader.Map());
  const auto manifest = ParseManifest(bytes, "");
  if (!manifest.ok()) return members;
  for (const v1::ManifestFile& file : manifest->files()) members.push_back(file.digest());
  return members;
}

// Size and digests of all bytes.
absl::Status Describe(const BlobReader& reader, v1::ManifestFile& file) {
  ChunkDigester digester;
  // Small blobs are many, and a megabyte costs more than their digest.
  std::string buffer(static_cast<size_t>(std::clamp<int64_t>(reader.size(), 1, 1 << 20)), '\0');
  for (int64_t offset = 0;;) {
    DW_ASSIGN_OR_RETURN(const int64_t count, reader.Read(offset, absl::MakeSpan(buffer)));
    if (count == 0) break;
    digester.Update(absl::string_view(buffer).substr(0, static_cast<size_t>(count)));
    offset += count;
  }
  digester.Finish(file);
  return absl::OkStatus();
}

absl::Status DescribeStaged(BlobStore& store, const std::string& id, v1::ManifestFile& file) {
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, store.OpenStaged(id));
  return Describe(*reader, file);
}

absl::StatusOr<std::string> DigestOf(const BlobReader& reader, v1::ManifestFile* description) {
  if (description == nullptr) return DigestOf(reader);
  DW_RETURN_IF_ERROR(Describe(reader, *description));
  return description->digest();
}

}  // namespace

absl::Status Blobs::Damaged(const ObjectRow& object, absl::string_view what) {
  const absl::Status status = absl::DataLossError(absl::StrCat(
      "blob ", object.key.digest, " (generation ", object.key.generation, "): ", what));
  LogError("a stored blob is damaged and counts as absent from now on",
           {{"digest", object.key.digest}, {"error", status}});
  metrics_.blobs_damaged.Increment();
  DW_RETURN_IF_ERROR(metadata_.MarkDeleting(object.key));
  return status;
}

absl::StatusOr<std::unique_ptr<BlobReader>> Blobs::OpenObject(const BlobReference& blob,
                                                              ObjectRow& object) {
  const auto find = [&] {
    return metadata_.FindBlob(blob.tenant, blob.reference, blob.digest, clock_.Now());
  };
  DW_ASSIGN_OR_RETURN(object, find());
  absl::StatusOr<std::unique_ptr<BlobReader>> reader = store_.Open(object.key);
  if (absl::IsNotFound(reader.status())) {
    // Collected between the two calls, or even uploaded again since?
    DW_ASSIGN_OR_RETURN(const ObjectRow now, find());
    if (now.key == object.key) return Damaged(object, "its file is gone");
    object = now;
    reader = store_.Open(object.key);
  }
  DW_RETURN_IF_ERROR(reader.status());
  if ((*reader)->size() != object.size) {
    return Damaged(object, absl::StrCat("has ", (*reader)->size(), " bytes, want ", object.size));
  }
  return reader;
}

absl::StatusOr<std::unique_ptr<BlobReader>> Blobs::Open(const BlobReference& blob) {
  ObjectRow object;
  return OpenObject(blob, object);
}

absl::StatusOr<std::unique_ptr<BlobReader>> Blobs::Verify(const ObjectRow& object,
                                                          std::unique_ptr<BlobReader> reader,
                                                          v1::ManifestFile* description) {
  const absl::StatusOr<std::string> digest = DigestOf(*reader, description);
  if (digest.ok() && *digest == object.key.digest) return reader;
  if (digest.ok()) return Damaged(object, absl::StrCat("its bytes have digest ", *digest));
  if (absl::IsDataLoss(digest.status())) return Damaged(object, digest.status().message());
  return digest.status();
}

absl::StatusOr<std::unique_ptr<BlobReader>> Blobs::OpenVerified(const BlobReference& blob,
                                                                v1::ManifestFile* description) {
  ObjectRow object;
  DW_ASSIGN_OR_RETURN(std::unique_ptr<BlobReader> reader, OpenObject(blob, object));
  return Verify(object, std::move(reader), description);
}

absl::Status Blobs::LinkVerified(const BlobReference& blob, const std::string& path) {
  ObjectRow object;
  DW_ASSIGN_OR_RETURN(std::unique_ptr<BlobReader> reader, OpenObject(blob, object));
  DW_RETURN_IF_ERROR(Verify(object, std::move(reader), /*description=*/nullptr).status());
  return store_.Link(object.key, path);
}

absl::StatusOr<bool> Blobs::CheckDamaged(const BlobReference& blob) {
  const absl::Status status = OpenVerified(blob).status();
  if (absl::IsDataLoss(status)) return true;
  DW_RETURN_IF_ERROR(status);
  return false;
}

absl::Status Blobs::PromoteNew(const std::string& id, const ObjectKey& key,
                               const std::string& tenant) {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<BlobReader> reader, store_.OpenStaged(id));
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> members, MembersOf(*reader));
  DW_RETURN_IF_ERROR(store_.Promote(id, key));
  return metadata_.PublishObject(key, members, tenant, clock_.Now());
}

absl::Status Blobs::Promote(const std::string& id, const std::string& tenant,
                            const std::string& digest, int64_t size) {
  absl::Status status;
  for (int attempt = 0; attempt < kPromoteAttempts; ++attempt) {
    DW_ASSIGN_OR_RETURN(const std::optional<ObjectKey> key,
                        metadata_.AllocateObject(digest, size, clock_.Now()));
    if (!key.has_value()) {
      status = metadata_.HoldBlob(tenant, digest, clock_.Now());
      // Collected between the two calls: then ours is wanted after all.
      if (absl::IsNotFound(status)) continue;
    } else {
      status = PromoteNew(id, *key, tenant);
      // If this fails too, the next start does it.
      if (!status.ok()) static_cast<void>(metadata_.AbandonObject(*key));
    }
    DW_RETURN_IF_ERROR(status);
    return store_.DropStaged(id);
  }
  return absl::AbortedError(
      absl::StrCat("blob ", digest, ": was collected again and again while it came"));
}

absl::StatusOr<std::string> Blobs::AddBytes(const std::string& tenant, absl::string_view data) {
  const std::string id = RandomResourceId("in-");
  const std::string digest = Sha256Digest(data);
  absl::Status status = store_.AppendStaged(id, 0, data);
  if (status.ok()) status = store_.SyncStaged(id);
  if (status.ok()) status = Promote(id, tenant, digest, static_cast<int64_t>(data.size()));
  if (status.ok()) return digest;
  static_cast<void>(store_.DropStaged(id));
  return status;
}

absl::StatusOr<v1::ManifestFile> Blobs::AddFile(const std::string& tenant,
                                                absl::string_view manifest_path,
                                                const std::string& path) {
  const std::string id = RandomResourceId("in-");
  v1::ManifestFile file;
  file.set_path(std::string(manifest_path));
  absl::Status status = store_.StageFile(id, path);
  if (status.ok()) status = DescribeStaged(store_, id, file);
  if (status.ok()) status = Promote(id, tenant, file.digest(), file.size_bytes());
  if (status.ok()) return file;
  static_cast<void>(store_.DropStaged(id));
  return status;
}

}  // namespace deltaworks::services

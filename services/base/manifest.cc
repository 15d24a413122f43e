#include "services/base/manifest.h"

#include <google/protobuf/unknown_field_set.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "services/base/json_escape.h"
#include "services/base/resource_names.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr size_t kPathBytesMax = 512;

absl::Status Wrong(absl::string_view field, absl::string_view got, absl::string_view want) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", got, ", want ", want));
}

int64_t ChunksOf(int64_t size_bytes) {
  return size_bytes / kChunkBytes + (size_bytes % kChunkBytes != 0 ? 1 : 0);
}

absl::Status CheckOptionalDigest(absl::string_view field, const std::string& digest) {
  return digest.empty() ? absl::OkStatus() : CheckDigest(field, digest);
}

absl::Status CheckFile(const v1::ManifestFile& file) {
  DW_RETURN_IF_ERROR(CheckManifestPath(file.path()));
  if (file.size_bytes() < 0) {
    return Wrong("size_bytes", absl::StrCat(file.size_bytes()), "at least 0");
  }
  DW_RETURN_IF_ERROR(CheckDigest("digest", file.digest()));
  if (file.chunk_digests_size() != ChunksOf(file.size_bytes())) {
    return Wrong("chunk_digests", absl::StrCat("of length ", file.chunk_digests_size()),
                 absl::StrCat(ChunksOf(file.size_bytes()), " for ", file.size_bytes(), " bytes"));
  }
  for (const std::string& digest : file.chunk_digests()) {
    DW_RETURN_IF_ERROR(CheckDigest("chunk_digests", digest));
  }
  return absl::OkStatus();
}

absl::Status CheckFiles(const v1::Manifest& manifest) {
  if (manifest.files_size() < 1 || manifest.files_size() > kManifestFilesMax) {
    return Wrong("files", absl::StrCat("of length ", manifest.files_size()),
                 absl::StrCat("1..", kManifestFilesMax));
  }
  for (int i = 0; i < manifest.files_size(); ++i) {
    const v1::ManifestFile& file = manifest.files(i);
    if (absl::Status status = CheckFile(file); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("files[", i, "]: ", status.message()));
    }
    if (i > 0 && manifest.files(i - 1).path() >= file.path()) {
      return absl::InvalidArgumentError(
          absl::StrCat("files[", i, "]: path ", JsonQuote(file.path()), " after ",
                       JsonQuote(manifest.files(i - 1).path()), ", want them sorted and unique"));
    }
  }
  return absl::OkStatus();
}

bool HasUnknownFields(const v1::Manifest& manifest) {
  if (!manifest.GetReflection()->GetUnknownFields(manifest).empty()) return true;
  return std::any_of(manifest.files().begin(), manifest.files().end(), [](const auto& file) {
    return !file.GetReflection()->GetUnknownFields(file).empty();
  });
}

absl::Status CheckManifest(const v1::Manifest& manifest) {
  if (manifest.format_version() != 1) {
    return Wrong("format_version", absl::StrCat(manifest.format_version()), "1");
  }
  if (!v1::Manifest::Kind_IsValid(manifest.kind()) ||
      manifest.kind() == v1::Manifest::KIND_UNSPECIFIED) {
    return Wrong("kind", absl::StrCat(manifest.kind()), "1..4");
  }
  if (HasUnknownFields(manifest)) {
    return absl::InvalidArgumentError("fields of a newer version, want version 1");
  }
  DW_RETURN_IF_ERROR(CheckOptionalDigest("base_source_digest", manifest.base_source_digest()));
  DW_RETURN_IF_ERROR(
      CheckOptionalDigest("dataset_manifest_digest", manifest.dataset_manifest_digest()));
  DW_RETURN_IF_ERROR(CheckOptionalDigest("adapter_digest", manifest.adapter_digest()));
  DW_RETURN_IF_ERROR(CheckOptionalDigest("probe_digest", manifest.probe_digest()));
  DW_RETURN_IF_ERROR(CheckText("numerics_class", manifest.numerics_class(), 256));
  if (manifest.step() < 0) return Wrong("step", absl::StrCat(manifest.step()), "at least 0");
  return CheckFiles(manifest);
}

}  // namespace

void ChunkDigester::Update(absl::string_view data) {
  whole_.Update(data);
  while (!data.empty()) {
    const int64_t room = kChunkBytes - size_ % kChunkBytes;
    const absl::string_view piece = data.substr(0, static_cast<size_t>(room));
    chunk_.Update(piece);
    size_ += static_cast<int64_t>(piece.size());
    data.remove_prefix(piece.size());
    if (size_ % kChunkBytes == 0) {
      chunks_.push_back(chunk_.Finish());
      chunk_ = Sha256Stream();
    }
  }
}

void ChunkDigester::Finish(v1::ManifestFile& file) {
  if (size_ % kChunkBytes != 0) chunks_.push_back(chunk_.Finish());
  file.set_size_bytes(size_);
  file.set_digest(whole_.Finish());
  file.mutable_chunk_digests()->Assign(chunks_.begin(), chunks_.end());
}

v1::ManifestFile DescribeBytes(absl::string_view path, absl::string_view data) {
  v1::ManifestFile file;
  file.set_path(std::string(path));
  ChunkDigester digester;
  digester.Update(data);
  digester.Finish(file);
  return file;
}

absl::StatusOr<v1::ManifestFile> DescribeFile(absl::string_view path,
                                              const std::string& file_path) {
  DW_ASSIGN_OR_RETURN(const auto mapped, MappedFile::Open(file_path));
  return DescribeBytes(path, mapped->bytes());
}

absl::StatusOr<std::string> SerializeManifest(v1::Manifest manifest) {
  std::sort(manifest.mutable_files()->pointer_begin(), manifest.mutable_files()->pointer_end(),
            [](const auto* a, const auto* b) { return a->path() < b->path(); });
  if (absl::Status status = CheckManifest(manifest); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("manifest: ", status.message()));
  }
  std::string bytes = manifest.SerializeAsString();
  if (static_cast<int64_t>(bytes.size()) > kManifestBytesMax) {
    return Wrong("manifest", absl::StrCat("of ", bytes.size(), " bytes"),
                 absl::StrCat("at most ", kManifestBytesMax));
  }
  return bytes;
}

absl::StatusOr<v1::Manifest> ParseManifest(absl::string_view bytes, absl::string_view subject) {
  v1::Manifest manifest;
  if (static_cast<int64_t>(bytes.size()) > kManifestBytesMax ||
      !manifest.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError(absl::StrCat(subject, ": not a manifest"));
  }
  if (absl::Status status = CheckManifest(manifest); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, ": not a manifest: ", status.message()));
  }
  return manifest;
}

const v1::ManifestFile* FindFile(const v1::Manifest& manifest, absl::string_view path) {
  for (const v1::ManifestFile& file : manifest.files()) {
    if (file.path() == path) return &file;
  }
  return nullptr;
}

absl::Status CheckManifestPath(absl::string_view path) {
  bool good = !path.empty() && path.size() <= kPathBytesMax && CheckText("path", path, 512).ok() &&
              path.find('\n') == path.npos && path.find('\t') == path.npos;
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    good = good && !part.empty() && part != "." && part != "..";
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("path is ", JsonQuote(path.substr(0, 200)),
                   ", want a relative path of at most 512 bytes without . and .. parts"));
}

}  // namespace deltaworks::services

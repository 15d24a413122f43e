#include "trainer/formats/manifest.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kFormatVersion = 1;
constexpr int64_t kManifestBytesMax = 64 << 20;  // Enough for 3 TB of chunks.

absl::Status Wrong(absl::string_view subject, absl::string_view what, absl::string_view got,
                   absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat(subject, ": ", what, " is ", got, ", want ", want));
}

int64_t ChunksOf(int64_t size_bytes) {
  return size_bytes / kChunkBytes + (size_bytes % kChunkBytes != 0 ? 1 : 0);
}

bool IsPlainName(absl::string_view name) {
  return !name.empty() && name != "." && name != ".." && name != kManifestFile &&
         name.find('/') == absl::string_view::npos && name.find('\0') == absl::string_view::npos;
}

absl::StatusOr<std::string> ParseDigest(const Json& json, const std::string& name,
                                        absl::string_view subject) {
  DW_ASSIGN_OR_RETURN(std::string digest, JsonString(json, name, subject));
  if (!IsSha256Digest(digest)) return Wrong(subject, name, digest, "sha256: and 64 hex digits");
  return digest;
}

absl::StatusOr<ManifestFile> ParseFile(const Json& json, absl::string_view subject) {
  ManifestFile file;
  DW_ASSIGN_OR_RETURN(file.name, JsonString(json, "name", subject));
  if (!IsPlainName(file.name)) return Wrong(subject, "name", file.name, "a plain file name");
  const std::string file_subject = absl::StrCat(subject, ": ", file.name);
  DW_ASSIGN_OR_RETURN(file.size_bytes, JsonInt(json, "size_bytes", file_subject));
  if (file.size_bytes < 0) {
    return Wrong(file_subject, "size_bytes", absl::StrCat(file.size_bytes), "at least 0");
  }
  DW_ASSIGN_OR_RETURN(file.digest, ParseDigest(json, "digest", file_subject));
  if (!JsonHas(json, "chunk_digests") || !json["chunk_digests"].is_array() ||
      static_cast<int64_t>(json["chunk_digests"].size()) != ChunksOf(file.size_bytes)) {
    return Wrong(file_subject, "chunk_digests",
                 JsonHas(json, "chunk_digests")
                     ? absl::StrCat("of length ", json["chunk_digests"].size())
                     : "absent",
                 absl::StrCat("a list of ", ChunksOf(file.size_bytes), " digests for ",
                              file.size_bytes, " bytes"));
  }
  for (const Json& chunk : json["chunk_digests"]) {
    if (!chunk.is_string() || !IsSha256Digest(chunk.get<std::string>())) {
      return Wrong(file_subject, "a chunk digest", JsonText(chunk).substr(0, 80),
                   "sha256: and 64 hex digits");
    }
    file.chunk_digests.push_back(chunk.get<std::string>());
  }
  return file;
}

absl::StatusOr<std::vector<ManifestFile>> ParseFiles(const Json& json, absl::string_view subject) {
  if (!JsonHas(json, "files") || !json["files"].is_array()) {
    return Wrong(subject, "files", JsonHas(json, "files") ? json["files"].type_name() : "absent",
                 "a list");
  }
  std::vector<ManifestFile> files;
  for (const Json& entry : json["files"]) {
    DW_ASSIGN_OR_RETURN(ManifestFile file, ParseFile(entry, subject));
    if (!files.empty() && files.back().name >= file.name) {
      return Wrong(subject, "files", absl::StrCat(file.name, " after ", files.back().name),
                   "sorted by name, each once");
    }
    files.push_back(std::move(file));
  }
  return files;
}

ManifestFile Describe(absl::string_view bytes, std::string name) {
  ManifestFile file;
  file.name = std::move(name);
  file.size_bytes = static_cast<int64_t>(bytes.size());
  Sha256Stream whole;
  for (size_t begin = 0; begin < bytes.size(); begin += kChunkBytes) {
    const absl::string_view chunk = bytes.substr(begin, kChunkBytes);
    whole.Update(chunk);
    file.chunk_digests.push_back(Sha256Digest(chunk));
  }
  file.digest = whole.Finish();
  return file;
}

absl::Status Compare(const ManifestFile& got, const ManifestFile& want, absl::string_view path) {
  if (got.size_bytes != want.size_bytes) {
    return absl::DataLossError(
        absl::StrCat(path, ": has ", got.size_bytes, " bytes, want ", want.size_bytes));
  }
  for (size_t i = 0; i < want.chunk_digests.size(); ++i) {
    if (got.chunk_digests[i] == want.chunk_digests[i]) continue;
    const int64_t begin = static_cast<int64_t>(i) * kChunkBytes;
    return absl::DataLossError(absl::StrCat(path, ": chunk ", i, " (bytes ", begin, "..",
                                            std::min(begin + kChunkBytes, want.size_bytes), ") is ",
                                            got.chunk_digests[i], ", want ",
                                            want.chunk_digests[i]));
  }
  if (got.digest != want.digest) {
    return absl::DataLossError(absl::StrCat(path, ": is ", got.digest, ", want ", want.digest));
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view FormName(DType form) {
  CHECK(form == DType::kBF16 || form == DType::kF32) << NameOf(form) << " is no form";
  return form == DType::kBF16 ? "bf16" : "f32";
}

std::optional<DType> FormFromName(absl::string_view name) {
  if (name == "bf16") return DType::kBF16;
  if (name == "f32") return DType::kF32;
  return std::nullopt;
}

absl::StatusOr<ModelManifest> ModelManifest::Parse(absl::string_view text,
                                                   absl::string_view subject) {
  DW_ASSIGN_OR_RETURN(const Json json, ParseJson(text, subject));
  DW_ASSIGN_OR_RETURN(const int64_t version, JsonInt(json, "format_version", subject));
  if (version != kFormatVersion) {
    return Wrong(subject, "format_version", absl::StrCat(version), absl::StrCat(kFormatVersion));
  }
  ModelManifest manifest;
  DW_ASSIGN_OR_RETURN(manifest.source_digest, ParseDigest(json, "source_digest", subject));
  DW_ASSIGN_OR_RETURN(manifest.source_name, JsonString(json, "source_name", subject));
  DW_ASSIGN_OR_RETURN(const std::string form, JsonString(json, "form", subject));
  const std::optional<DType> form_type = FormFromName(form);
  if (!form_type.has_value()) return Wrong(subject, "form", form, "bf16 or f32");
  manifest.form = *form_type;
  DW_ASSIGN_OR_RETURN(manifest.architecture, JsonString(json, "architecture", subject));
  DW_ASSIGN_OR_RETURN(manifest.parameters, JsonInt(json, "parameters", subject));
  if (manifest.parameters < 1) {
    return Wrong(subject, "parameters", absl::StrCat(manifest.parameters), "at least 1");
  }
  DW_ASSIGN_OR_RETURN(manifest.files, ParseFiles(json, subject));
  return manifest;
}

absl::StatusOr<ModelManifest> ModelManifest::Read(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kManifestFile);
  DW_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kManifestBytesMax));
  return Parse(text, path);
}

std::string ModelManifest::Serialize() const {
  Json list = Json::array();
  for (const ManifestFile& file : files) {
    list.push_back({{"name", file.name},
                    {"size_bytes", file.size_bytes},
                    {"digest", file.digest},
                    {"chunk_digests", file.chunk_digests}});
  }
  const Json json = {{"format_version", kFormatVersion},
                     {"source_digest", source_digest},
                     {"source_name", source_name},
                     {"form", std::string(FormName(form))},
                     {"architecture", architecture},
                     {"parameters", parameters},
                     {"files", list}};
  return absl::StrCat(JsonText(json, 1), "\n");
}

const ManifestFile* ModelManifest::Find(absl::string_view name) const {
  for (const ManifestFile& file : files) {
    if (file.name == name) return &file;
  }
  return nullptr;
}

absl::StatusOr<ManifestFile> DescribeFile(const std::string& folder, const std::string& name) {
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<MappedFile> file,
                      MappedFile::Open(absl::StrCat(folder, "/", name)));
  return Describe(file->bytes(), name);
}

absl::Status VerifyModelFolder(const std::string& folder) {
  DW_ASSIGN_OR_RETURN(const ModelManifest manifest, ModelManifest::Read(folder));
  for (const ManifestFile& want : manifest.files) {
    const std::string path = absl::StrCat(folder, "/", want.name);
    const absl::StatusOr<ManifestFile> got = DescribeFile(folder, want.name);
    if (absl::IsNotFound(got.status())) {
      return absl::DataLossError(
          absl::StrCat(path, ": is absent, want ", want.size_bytes, " bytes"));
    }
    if (!got.ok()) return got.status();
    DW_RETURN_IF_ERROR(Compare(*got, want, path));
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::trainer

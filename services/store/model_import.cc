#include "services/store/model_import.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "services/base/manifest.h"
#include "services/base/spec_conversion.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"
#include "trainer/base/utf8_prefix.h"
#include "trainer/import/import.h"
#include "trainer/model/llama.h"

namespace deltaworks::services {
namespace {

// Of the time: the rest goes to digests of the result.
constexpr double kImportShare = 0.9;

absl::Status EmptyFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return ErrnoStatus(error.value(), path, "remove");
  return MakeDirectories(path);
}

// Uploaded files under their paths in `folder`; returns what to import: the folder, or its one
// file.
absl::StatusOr<std::string> LinkUploads(Blobs& blobs, const std::string& tenant,
                                        const std::string& owner, const v1::UploadedFiles& uploads,
                                        const std::string& folder) {
  DW_RETURN_IF_ERROR(MakeDirectories(folder));
  for (const v1::ManifestFile& file : uploads.files()) {
    const std::string path = absl::StrCat(folder, "/", file.path());
    DW_RETURN_IF_ERROR(MakeDirectories(std::filesystem::path(path).parent_path().string()));
    DW_RETURN_IF_ERROR(blobs.LinkVerified({tenant, owner, file.digest()}, path));
  }
  const bool one_file = uploads.files_size() == 1;
  return one_file ? absl::StrCat(folder, "/", uploads.files(0).path()) : folder;
}

// Last parts of the names of the linears: "q_proj".
std::vector<std::string> TargetModules(const trainer::ModelConfig& config) {
  absl::btree_set<std::string> names;
  for (const trainer::LinearModule& module : trainer::LlamaModules(config)) {
    names.insert(module.name.substr(module.name.rfind('.') + 1));
  }
  return {names.begin(), names.end()};
}

void Describe(const trainer::ImportResult& result, v1::BaseModel& base_model) {
  base_model.set_source_digest(result.manifest.source_digest);
  base_model.set_form(ToNumberType(result.manifest.form));
  base_model.set_architecture(result.manifest.architecture);
  base_model.set_parameter_count(result.manifest.parameters);
  base_model.set_context_length_tokens(static_cast<int32_t>(result.config.max_position_embeddings));
  base_model.clear_target_modules();
  for (const std::string& name : TargetModules(result.config)) {
    base_model.add_target_modules(name);
  }
}

// Moves the files of the imported folder into the store, and returns their manifest.
absl::StatusOr<v1::Manifest> AddFiles(Blobs& blobs, const std::string& tenant,
                                      const trainer::ModelManifest& imported,
                                      const std::string& folder, const ImportProgress& progress) {
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::BASE_MODEL);
  manifest.set_base_source_digest(imported.source_digest);
  manifest.set_base_form(ToNumberType(imported.form));
  std::vector<std::string> names = {trainer::kManifestFile};
  for (const trainer::ManifestFile& file : imported.files) names.push_back(file.name);
  for (const std::string& name : names) {
    DW_RETURN_IF_ERROR(progress(kImportShare));
    DW_ASSIGN_OR_RETURN(*manifest.add_files(),
                        blobs.AddFile(tenant, name, absl::StrCat(folder, "/", name)));
  }
  return manifest;
}

}  // namespace

absl::Status ImportToBlobs(Blobs& blobs, const std::string& tenant, const std::string& owner,
                           const v1::ImportBaseModelRequest& request,
                           const std::string& work_folder, const ImportProgress& progress,
                           v1::BaseModel& base_model) {
  DW_RETURN_IF_ERROR(EmptyFolder(work_folder));
  trainer::ImportOptions options;
  options.output_folder = work_folder + "/model";
  options.form = ToDType(request.form());
  options.source_name = base_model.origin();
  options.source_path = request.local_path();
  if (request.has_uploaded_files()) {
    DW_ASSIGN_OR_RETURN(
        options.source_path,
        LinkUploads(blobs, tenant, owner, request.uploaded_files(), work_folder + "/source"));
  }
  const auto report = [&](const trainer::ImportProgress& done) {
    const double total = static_cast<double>(std::max<int64_t>(1, done.parameters_total));
    return progress(kImportShare * static_cast<double>(done.parameters_done) / total);
  };
  DW_ASSIGN_OR_RETURN(const trainer::ImportResult result, trainer::ImportModel(options, report));
  DW_ASSIGN_OR_RETURN(const v1::Manifest manifest,
                      AddFiles(blobs, tenant, result.manifest, options.output_folder, progress));
  DW_ASSIGN_OR_RETURN(const std::string bytes, SerializeManifest(manifest));
  DW_ASSIGN_OR_RETURN(*base_model.mutable_manifest_digest(), blobs.AddBytes(tenant, bytes));
  Describe(result, base_model);
  int64_t size = 0;
  for (const v1::ManifestFile& file : manifest.files()) size += file.size_bytes();
  base_model.set_size_bytes(size);
  return absl::OkStatus();
}

v1::Failure ImportFailure(const absl::Status& status) {
  v1::Failure failure;
  failure.set_message(std::string(Utf8Prefix(status.message(), 2000)));
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
      failure.set_code("BASE_MODEL_INVALID");
      failure.set_field("source");
      failure.set_fault(v1::Failure::USER);
      break;
    case absl::StatusCode::kResourceExhausted:
      failure.set_code("DISK_FULL");
      failure.set_fault(v1::Failure::PLATFORM);
      break;
    case absl::StatusCode::kDataLoss:
      failure.set_code("BLOB_CORRUPT");
      failure.set_fault(v1::Failure::PLATFORM);
      break;
    default:
      failure.set_code("STORE_ERROR");
      failure.set_fault(v1::Failure::PLATFORM);
  }
  return failure;
}

}  // namespace deltaworks::services

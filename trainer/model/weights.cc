#include "trainer/model/weights.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"
#include "trainer/model/llama_tensors.h"

namespace deltaworks::trainer {
namespace {

constexpr char kArchitecture[] = "llama";
constexpr int64_t kConfigBytesMax = 1 << 20;

// Cheap, and what an interrupted copy of a folder most often gets wrong.
absl::Status CheckSizes(const ModelManifest& manifest, const std::string& folder) {
  for (const ManifestFile& file : manifest.files) {
    const std::string path = absl::StrCat(folder, "/", file.name);
    std::error_code error;
    const uintmax_t size_bytes = std::filesystem::file_size(path, error);
    if (error) return ErrnoStatus(error.value(), path, "stat");
    if (size_bytes != static_cast<uintmax_t>(file.size_bytes)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": has ", size_bytes, " bytes, want ",
                                                     file.size_bytes, " by the manifest"));
    }
  }
  for (const char* name : {kConfigFile, kWeightsFile}) {
    if (manifest.Find(name) == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(folder, "/", kManifestFile, ": lists no ", name, ", want it listed"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTensors(const SafetensorsFile& file, const ModelManifest& manifest,
                          const ModelConfig& config) {
  ShapeMap shapes;
  for (const auto& [name, view] : file.tensors()) shapes[name] = view.shape;
  DW_RETURN_IF_ERROR(CheckLlamaTensors(config, shapes, file.path()));
  for (const auto& [name, view] : file.tensors()) {
    const DType want = StoredDType(manifest.form, view.shape);
    if (view.dtype != want) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": tensor ", name, " is ",
                                                     NameOf(view.dtype), ", want ", NameOf(want),
                                                     " in the form ", FormName(manifest.form)));
    }
  }
  return file.contents().CheckAligned(file.path());
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelWeights>> ModelWeights::Open(const std::string& folder) {
  DW_ASSIGN_OR_RETURN(ModelManifest manifest, ModelManifest::Read(folder));
  if (manifest.architecture != kArchitecture) {
    return absl::InvalidArgumentError(absl::StrCat(folder, "/", kManifestFile, ": architecture is ",
                                                   manifest.architecture, ", want ",
                                                   kArchitecture));
  }
  DW_RETURN_IF_ERROR(CheckSizes(manifest, folder));
  const std::string config_path = absl::StrCat(folder, "/", kConfigFile);
  DW_ASSIGN_OR_RETURN(const std::string text, ReadFile(config_path, kConfigBytesMax));
  DW_ASSIGN_OR_RETURN(ModelConfig config, ModelConfig::Parse(text, config_path));
  DW_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsFile> file,
                      SafetensorsFile::Open(absl::StrCat(folder, "/", kWeightsFile)));
  DW_RETURN_IF_ERROR(CheckTensors(*file, manifest, config));
  return std::unique_ptr<ModelWeights>(
      new ModelWeights(std::move(manifest), std::move(config), std::move(file)));
}

const ConstTensorView& ModelWeights::tensor(const std::string& name) const {
  const ConstTensorView* view = file_->contents().Find(name);
  CHECK(view != nullptr) << file_->path() << " has no tensor " << name;
  return *view;
}

}  // namespace deltaworks::trainer

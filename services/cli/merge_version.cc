#include "services/cli/merge_version.h"

#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/manifest.h"
#include "trainer/formats/safetensors.h"
#include "trainer/lora/merge.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"
#include "trainer/model/weights.h"

namespace deltaworks::services {
namespace {

absl::Status WriteTensors(const trainer::TensorMap& tensors, const std::string& path) {
  std::vector<trainer::TensorPlan> plan;
  for (const auto& [name, tensor] : tensors) plan.push_back({name, tensor.dtype, tensor.shape});
  // transformers asks for this mark.
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<trainer::SafetensorsWriter> writer,
                      trainer::SafetensorsWriter::Create(path, plan, {{"format", "pt"}}));
  for (const trainer::TensorPlan& planned : writer->order()) {
    const trainer::ConstTensorView& tensor = tensors.at(planned.name);
    DW_RETURN_IF_ERROR(writer->Append(
        {static_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes())}));
  }
  return writer->Finish();
}

absl::Status CopyFile(const std::string& from_folder, const std::string& to_folder,
                      const char* name) {
  DW_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(absl::StrCat(from_folder, "/", name)));
  return WriteFileAtomically(absl::StrCat(to_folder, "/", name), bytes);
}

}  // namespace

absl::StatusOr<MergeResult> MergeFolders(const std::string& base_folder,
                                         const std::string& adapter_folder,
                                         const std::string& output_folder) {
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<trainer::ModelWeights> base,
                      trainer::ModelWeights::Open(base_folder));
  DW_ASSIGN_OR_RETURN(
      const trainer::PeftAdapter adapter,
      trainer::ReadPeftFolder(adapter_folder, trainer::LlamaModules(base->config())));
  const std::string& base_digest = base->manifest().source_digest;
  if (!adapter.base_digest.empty() && adapter.base_digest != base_digest) {
    return absl::FailedPreconditionError(absl::StrCat("the adapter is bound to a base of source ",
                                                      adapter.base_digest, ", got ", base_digest));
  }
  DW_ASSIGN_OR_RETURN(
      const std::unique_ptr<trainer::MergedWeights> merged,
      trainer::MergedWeights::Create(base->tensors(), adapter.targets, adapter.values));
  const std::string weights = absl::StrCat(output_folder, "/", trainer::kWeightsFile);
  DW_RETURN_IF_ERROR(WriteTensors(merged->tensors(), weights));
  // The type that transformers loads the tensors in.
  trainer::ModelConfig config = base->config();
  config.torch_dtype = base->manifest().form == trainer::DType::kBF16 ? "bfloat16" : "float32";
  DW_RETURN_IF_ERROR(
      WriteFileAtomically(absl::StrCat(output_folder, "/", trainer::kConfigFile), config.ToJson()));
  DW_RETURN_IF_ERROR(CopyFile(base_folder, output_folder, trainer::kTokenizerFile));
  DW_RETURN_IF_ERROR(CopyFile(base_folder, output_folder, trainer::kTokenizerConfigFile));
  DW_ASSIGN_OR_RETURN(const trainer::ManifestFile written,
                      trainer::DescribeFile(output_folder, trainer::kWeightsFile));
  return MergeResult{.matrices = static_cast<int64_t>(adapter.targets.size()),
                     .size_bytes = written.size_bytes,
                     .merge_error = merged->merge_error(),
                     .digest = written.digest};
}

}  // namespace deltaworks::services

#include "trainer/import/import.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/safetensors.h"
#include "trainer/import/model_source.h"
#include "trainer/import/source_digest.h"
#include "trainer/import/staging_folder.h"
#include "trainer/model/llama_tensors.h"

namespace deltaworks::trainer {
namespace {

constexpr char kArchitecture[] = "llama";
// Elements converted at a time: 1 MiB of f32.
constexpr int64_t kPieceElements = 256 * 1024;

// Copies one source's tensors into one file.
class WeightCopier {
 public:
  WeightCopier(const ModelSource& source, const ImportOptions& options)
      : source_(source), options_(options) {}

  absl::Status Copy(const std::string& path, const ImportProgressCallback& progress) {
    std::vector<TensorPlan> plan;
    for (const auto& [name, shape] : LlamaTensorShapes(source_.config())) {
      plan.push_back({name, StoredDType(options_.form, shape), shape});
    }
    ImportProgress state{.tensors_total = static_cast<int64_t>(plan.size()),
                         .parameters_total = LlamaParameters(source_.config())};
    const auto report = [&] { return progress ? progress(state) : absl::OkStatus(); };
    // transformers wants to be told that the tensors are PyTorch's.
    DW_ASSIGN_OR_RETURN(const std::unique_ptr<SafetensorsWriter> writer,
                        SafetensorsWriter::Create(path, std::move(plan), {{"format", "pt"}}));
    DW_RETURN_IF_ERROR(report());
    for (const TensorPlan& tensor : writer->order()) {
      DW_RETURN_IF_ERROR(CopyTensor(tensor, *writer));
      ++state.tensors_done;
      state.parameters_done += tensor.bytes() / SizeOf(tensor.dtype);
      DW_RETURN_IF_ERROR(report());
    }
    return writer->Finish();
  }

 private:
  absl::Status CopyTensor(const TensorPlan& tensor, SafetensorsWriter& writer) {
    const int64_t columns = tensor.shape.back();
    const int64_t rows = tensor.shape.size() == 1 ? 1 : tensor.shape.front();
    const int64_t piece_rows = std::max<int64_t>(1, kPieceElements / columns);
    for (int64_t row = 0; row < rows; row += piece_rows) {
      const int64_t row_end = std::min(row + piece_rows, rows);
      floats_.resize(static_cast<size_t>((row_end - row) * columns));
      source_.ReadRows(tensor.name, row, row_end, absl::MakeSpan(floats_));
      DW_RETURN_IF_ERROR(AppendPiece(tensor, row, writer));
    }
    return absl::OkStatus();
  }

  // Appends floats_, which begin at row `row`, in the stored type.
  absl::Status AppendPiece(const TensorPlan& tensor, int64_t row, SafetensorsWriter& writer) {
    if (tensor.dtype == DType::kBF16) {
      bfloats_.resize(floats_.size());
      for (size_t i = 0; i < floats_.size(); ++i) {
        bfloats_[i] = BFloat16(floats_[i]);
        if (!std::isfinite(static_cast<float>(bfloats_[i]))) return NotFinite(tensor, row, i);
      }
      return writer.Append(AsBytes(bfloats_));
    }
    for (size_t i = 0; i < floats_.size(); ++i) {
      if (!std::isfinite(floats_[i])) return NotFinite(tensor, row, i);
    }
    return writer.Append(AsBytes(floats_));
  }

  absl::Status NotFinite(const TensorPlan& tensor, int64_t row, size_t index) const {
    const int64_t columns = tensor.shape.back();
    const int64_t offset = static_cast<int64_t>(index);
    return absl::InvalidArgumentError(
        absl::StrCat(options_.source_path, ": tensor ", tensor.name, "[", row + offset / columns,
                     ", ", offset % columns, "] is ", floats_[index], ", want a finite number in ",
                     NameOf(tensor.dtype)));
  }

  template <typename T>
  static absl::string_view AsBytes(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
  }

  const ModelSource& source_;
  const ImportOptions& options_;
  std::vector<float> floats_;
  std::vector<BFloat16> bfloats_;
};

}  // namespace

absl::StatusOr<ImportResult> ImportModel(const ImportOptions& options,
                                         const ImportProgressCallback& progress) {
  CHECK(options.form == DType::kBF16 || options.form == DType::kF32) << NameOf(options.form);
  // First, so that a folder that is there already costs no reading of the source.
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<StagingFolder> staging,
                      StagingFolder::Create(options.output_folder));
  const std::string& folder = staging->path();
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<ModelSource> source,
                      OpenModelSource(options.source_path));
  const std::string config_json = source->config().ToJson();
  const TokenizerFiles& tokenizer = source->tokenizer();
  DW_RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(folder, "/", kConfigFile), config_json));
  DW_RETURN_IF_ERROR(
      WriteFileAtomically(absl::StrCat(folder, "/", kTokenizerFile), tokenizer.tokenizer_json));
  DW_RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(folder, "/", kTokenizerConfigFile),
                                         tokenizer.tokenizer_config_json));
  DW_RETURN_IF_ERROR(
      WeightCopier(*source, options).Copy(absl::StrCat(folder, "/", kWeightsFile), progress));

  ImportResult result;
  result.config = source->config();
  ModelManifest& manifest = result.manifest;
  manifest.source_digest = SourceDigest(source->tensors(), config_json, tokenizer);
  manifest.source_name = options.source_name;
  manifest.form = options.form;
  manifest.architecture = kArchitecture;
  manifest.parameters = LlamaParameters(source->config());
  // In the order of their names.
  for (const char* name : {kConfigFile, kWeightsFile, kTokenizerFile, kTokenizerConfigFile}) {
    DW_ASSIGN_OR_RETURN(ManifestFile file, DescribeFile(folder, name));
    manifest.files.push_back(std::move(file));
  }
  DW_RETURN_IF_ERROR(
      WriteFileAtomically(absl::StrCat(folder, "/", kManifestFile), manifest.Serialize()));
  DW_RETURN_IF_ERROR(staging->Commit());
  return result;
}

}  // namespace deltaworks::trainer

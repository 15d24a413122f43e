#include "trainer/import/hf_source.h"

#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/float16.h"
#include "trainer/formats/manifest.h"
#include "trainer/formats/safetensors.h"
#include "trainer/import/hf_tokenizer.h"
#include "trainer/model/llama_tensors.h"

namespace deltaworks::trainer {
namespace {

constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr char kWeightMap[] = "weight_map";
constexpr int64_t kConfigBytesMax = 1 << 20;
constexpr int64_t kIndexBytesMax = 64 << 20;

// A row of `count` elements that need not be aligned.
template <typename Stored, typename Convert>
void ConvertRow(const char* source, int64_t count, float* out, Convert convert) {
  for (int64_t i = 0; i < count; ++i) {
    Stored value;
    std::memcpy(&value, source + i * sizeof(Stored), sizeof(Stored));
    out[i] = convert(value);
  }
}

void ConvertToFloat(DType dtype, const char* source, int64_t count, float* out) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, source, static_cast<size_t>(count) * sizeof(float));
      return;
    case DType::kF16:
      return ConvertRow<uint16_t>(source, count, out, FloatFromHalf);
    case DType::kBF16:
      return ConvertRow<BFloat16>(source, count, out,
                                  [](BFloat16 value) { return static_cast<float>(value); });
    default:
      LOG(FATAL) << NameOf(dtype) << " was refused when the source was opened";
  }
}

class HfSource final : public ModelSource {
 public:
  explicit HfSource(std::string folder) : folder_(std::move(folder)) {}

  absl::Status Read() {
    const std::string config_path = absl::StrCat(folder_, "/", kConfigFile);
    DW_ASSIGN_OR_RETURN(const std::string text, ReadFile(config_path, kConfigBytesMax));
    DW_ASSIGN_OR_RETURN(config_, ModelConfig::Parse(text, config_path));
    DW_RETURN_IF_ERROR(ReadTensors());
    DW_RETURN_IF_ERROR(CheckTensors());
    DW_ASSIGN_OR_RETURN(tokenizer_, ReadHfTokenizer(folder_, config_.vocab_size));
    return absl::OkStatus();
  }

  const ModelConfig& config() const override { return config_; }
  const TokenizerFiles& tokenizer() const override { return tokenizer_; }
  const SourceTensorMap& tensors() const override { return tensors_; }

  void ReadRows(const std::string& name, int64_t row_begin, int64_t row_end,
                absl::Span<float> out) const override {
    const ConstTensorView& view = views_.at(name);
    const int64_t columns = view.shape.back();
    CHECK(0 <= row_begin && row_begin <= row_end && row_end * columns <= view.elements()) << name;
    CHECK_EQ(static_cast<int64_t>(out.size()), (row_end - row_begin) * columns) << name;
    const auto* data = static_cast<const char*>(view.data);
    ConvertToFloat(view.dtype, data + row_begin * columns * SizeOf(view.dtype),
                   static_cast<int64_t>(out.size()), out.data());
  }

 private:
  // Puts the tensors of all shards into views_.
  absl::Status ReadTensors() {
    const std::string single = absl::StrCat(folder_, "/", kWeightsFile);
    const std::string index = absl::StrCat(folder_, "/", kIndexFile);
    if (std::filesystem::exists(single)) return ReadShard(single).status();
    if (std::filesystem::exists(index)) return ReadShards(index);
    return absl::NotFoundError(
        absl::StrCat(folder_, ": has neither ", kWeightsFile, " nor ", kIndexFile, ", want one"));
  }

  absl::StatusOr<const SafetensorsFile*> ReadShard(const std::string& path) {
    DW_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsFile> file, SafetensorsFile::Open(path));
    for (const auto& [name, view] : file->tensors()) {
      if (!views_.emplace(name, view).second) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ": tensor ", name, " is in another file too, want it once"));
      }
    }
    files_.push_back(std::move(file));
    return files_.back().get();
  }

  absl::Status ReadShards(const std::string& index_path) {
    DW_ASSIGN_OR_RETURN(const std::string text, ReadFile(index_path, kIndexBytesMax));
    DW_ASSIGN_OR_RETURN(const Json json, ParseJson(text, index_path));
    if (!JsonHas(json, kWeightMap) || !json[kWeightMap].is_object()) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, ": has no object ", kWeightMap, ", want tensor: file"));
    }
    std::map<std::string, std::set<std::string>> tensors_of;
    for (const auto& [tensor, file] : json[kWeightMap].items()) {
      const std::string name = file.is_string() ? file.get<std::string>() : std::string();
      if (!absl::EndsWith(name, ".safetensors") || absl::StrContains(name, '/')) {
        return absl::InvalidArgumentError(
            absl::StrCat(index_path, ": the file of ", tensor, " is ", JsonText(file).substr(0, 80),
                         ", want the name of a .safetensors file of this folder"));
      }
      tensors_of[name].insert(tensor);
    }
    for (const auto& [name, listed] : tensors_of) {
      DW_RETURN_IF_ERROR(CompareShard(absl::StrCat(folder_, "/", name), listed));
    }
    return absl::OkStatus();
  }

  // Reads a shard, which must hold exactly the tensors that the index lists for it.
  absl::Status CompareShard(const std::string& path, const std::set<std::string>& listed) {
    DW_ASSIGN_OR_RETURN(const SafetensorsFile* file, ReadShard(path));
    for (const std::string& tensor : listed) {
      if (!file->tensors().contains(tensor)) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ": has no tensor ", tensor, ", want it as ", kIndexFile, " says"));
      }
    }
    for (const auto& [tensor, view] : file->tensors()) {
      if (!listed.contains(tensor)) {
        return absl::InvalidArgumentError(absl::StrCat(
            path, ": has tensor ", tensor, ", want only those that ", kIndexFile, " lists"));
      }
    }
    return absl::OkStatus();
  }

  void DropWhatTransformersIgnores() {
    for (auto it = views_.begin(); it != views_.end();) {
      const bool ignored = absl::EndsWith(it->first, ".rotary_emb.inv_freq");
      it = ignored ? views_.erase(it) : std::next(it);
    }
    const auto output = views_.find(kOutputTensor);
    const auto embedding = views_.find(kEmbeddingTensor);
    if (!config_.tie_word_embeddings || output == views_.end() || embedding == views_.end()) return;
    const ConstTensorView& a = output->second;
    const ConstTensorView& b = embedding->second;
    if (a.dtype == b.dtype && a.shape == b.shape &&
        std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())) == 0) {
      views_.erase(output);
    }
  }

  absl::Status CheckTensors() {
    DropWhatTransformersIgnores();
    ShapeMap shapes;
    for (const auto& [name, view] : views_) {
      shapes[name] = view.shape;
      if (view.dtype != DType::kF32 && view.dtype != DType::kF16 && view.dtype != DType::kBF16) {
        return absl::InvalidArgumentError(absl::StrCat(
            folder_, ": tensor ", name, " is ", NameOf(view.dtype), ", want F32, F16 or BF16"));
      }
      tensors_[name] = {std::string(NameOf(view.dtype)), view.shape,
                        absl::string_view(static_cast<const char*>(view.data),
                                          static_cast<size_t>(view.bytes()))};
    }
    return CheckLlamaTensors(config_, shapes, folder_);
  }

  const std::string folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  TensorMap views_;
  ModelConfig config_;
  TokenizerFiles tokenizer_;
  SourceTensorMap tensors_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ModelSource>> OpenHfSource(const std::string& folder) {
  auto source = std::make_unique<HfSource>(folder);
  DW_RETURN_IF_ERROR(source->Read());
  return std::unique_ptr<ModelSource>(std::move(source));
}

}  // namespace deltaworks::trainer

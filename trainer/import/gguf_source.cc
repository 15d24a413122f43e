#include "trainer/import/gguf_source.h"

#include <map>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/gguf.h"
#include "trainer/import/gguf_config.h"
#include "trainer/import/gguf_tokenizer.h"
#include "trainer/model/llama_tensors.h"

namespace deltaworks::trainer {
namespace {

struct LayerName {
  absl::string_view gguf;
  absl::string_view hugging_face;
  bool rotary = false;  // Its rows are in llama.cpp's order.
};

constexpr LayerName kLayerNames[] = {
    {"attn_norm", "input_layernorm"},     {"attn_q", "self_attn.q_proj", true},
    {"attn_k", "self_attn.k_proj", true}, {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},  {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},        {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

struct MappedName {
  std::string hugging_face;
  bool rotary = false;
};

// nullopt for a name that no Llama model has.
std::optional<MappedName> MapName(absl::string_view name) {
  if (name == "token_embd.weight") return MappedName{kEmbeddingTensor};
  if (name == "output_norm.weight") return MappedName{kFinalNormTensor};
  if (name == "output.weight") return MappedName{kOutputTensor};
  if (!absl::ConsumePrefix(&name, "blk.") || !absl::ConsumeSuffix(&name, ".weight")) {
    return std::nullopt;
  }
  const size_t dot = name.find('.');
  int32_t layer = 0;
  if (dot == absl::string_view::npos || !absl::SimpleAtoi(name.substr(0, dot), &layer) ||
      layer < 0 || name.substr(0, dot) != absl::StrCat(layer)) {
    return std::nullopt;
  }
  for (const LayerName& known : kLayerNames) {
    if (known.gguf == name.substr(dot + 1)) {
      return MappedName{LayerTensor(layer, known.hugging_face), known.rotary};
    }
  }
  return std::nullopt;
}

class GgufSource final : public ModelSource {
 public:
  explicit GgufSource(std::unique_ptr<GgufFile> file) : file_(std::move(file)) {}

  absl::Status Read() {
    const Gguf& gguf = file_->contents();
    DW_ASSIGN_OR_RETURN(config_, GgufModelConfig(gguf));
    DW_RETURN_IF_ERROR(ReadTensors(gguf));
    DW_ASSIGN_OR_RETURN(tokenizer_, GgufTokenizer(gguf));
    return absl::OkStatus();
  }

  const ModelConfig& config() const override { return config_; }
  const TokenizerFiles& tokenizer() const override { return tokenizer_; }
  const SourceTensorMap& tensors() const override { return tensors_; }

  void ReadRows(const std::string& name, int64_t row_begin, int64_t row_end,
                absl::Span<float> out) const override {
    const Stored& stored = stored_.at(name);
    if (!stored.rotary) return DequantizeRows(*stored.tensor, row_begin, row_end, out);
    const int64_t columns = stored.tensor->row_elements();
    CHECK_EQ(static_cast<int64_t>(out.size()), (row_end - row_begin) * columns) << name;
    for (int64_t row = row_begin; row < row_end; ++row) {
      const int64_t from = GgufRotaryRow(row, config_.head_dim);
      DequantizeRows(*stored.tensor, from, from + 1,
                     out.subspan((row - row_begin) * columns, columns));
    }
  }

 private:
  struct Stored {
    const GgufTensor* tensor = nullptr;
    bool rotary = false;
  };

  absl::Status ReadTensors(const Gguf& gguf) {
    ShapeMap shapes;
    for (const GgufTensor& tensor : gguf.tensors()) {
      if (tensor.name == kGgufRopeFactors) continue;  // Became part of the config.
      const std::optional<MappedName> name = MapName(tensor.name);
      if (!name.has_value()) {
        return absl::InvalidArgumentError(absl::StrCat(gguf.subject(), ": has a tensor ",
                                                       tensor.name, " ", ShapeText(tensor.shape),
                                                       ", want only those of a Llama model"));
      }
      shapes[name->hugging_face] = tensor.shape;
      stored_[name->hugging_face] = {&tensor, name->rotary};
      tensors_[name->hugging_face] = {std::string(tensor.type->name), tensor.shape, tensor.bytes};
    }
    return CheckLlamaTensors(config_, shapes, gguf.subject());
  }

  const std::unique_ptr<GgufFile> file_;
  ModelConfig config_;
  TokenizerFiles tokenizer_;
  SourceTensorMap tensors_;
  std::map<std::string, Stored> stored_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ModelSource>> OpenGgufSource(const std::string& path) {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  auto source = std::make_unique<GgufSource>(std::move(file));
  DW_RETURN_IF_ERROR(source->Read());
  return std::unique_ptr<ModelSource>(std::move(source));
}

}  // namespace deltaworks::trainer

#include "trainer/model/llama_tensors.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

// "a, b, c and 4 more"
std::string SomeOf(const std::vector<std::string>& names) {
  constexpr size_t kNamesMax = 3;
  const size_t shown = std::min(names.size(), kNamesMax);
  std::string text = absl::StrJoin(names.begin(), names.begin() + shown, ", ");
  if (names.size() > shown) absl::StrAppend(&text, " and ", names.size() - shown, " more");
  return text;
}

}  // namespace

std::string LayerTensor(int64_t layer, absl::string_view module) {
  return absl::StrCat("model.layers.", layer, ".", module, ".weight");
}

ShapeMap LlamaTensorShapes(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t query = config.num_attention_heads * config.head_dim;
  const int64_t key_value = config.num_key_value_heads * config.head_dim;
  ShapeMap shapes;
  shapes[kEmbeddingTensor] = {config.vocab_size, hidden};
  shapes[kFinalNormTensor] = {hidden};
  if (!config.tie_word_embeddings) shapes[kOutputTensor] = {config.vocab_size, hidden};
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    shapes[LayerTensor(layer, "input_layernorm")] = {hidden};
    shapes[LayerTensor(layer, "self_attn.q_proj")] = {query, hidden};
    shapes[LayerTensor(layer, "self_attn.k_proj")] = {key_value, hidden};
    shapes[LayerTensor(layer, "self_attn.v_proj")] = {key_value, hidden};
    shapes[LayerTensor(layer, "self_attn.o_proj")] = {hidden, query};
    shapes[LayerTensor(layer, "post_attention_layernorm")] = {hidden};
    shapes[LayerTensor(layer, "mlp.gate_proj")] = {config.intermediate_size, hidden};
    shapes[LayerTensor(layer, "mlp.up_proj")] = {config.intermediate_size, hidden};
    shapes[LayerTensor(layer, "mlp.down_proj")] = {hidden, config.intermediate_size};
  }
  return shapes;
}

int64_t LlamaParameters(const ModelConfig& config) {
  int64_t parameters = 0;
  for (const auto& [name, shape] : LlamaTensorShapes(config)) {
    parameters += ConstTensorView(nullptr, DType::kU8, shape).elements();
  }
  return parameters;
}

absl::Status CheckLlamaTensors(const ModelConfig& config, const ShapeMap& got,
                               absl::string_view subject) {
  const ShapeMap want = LlamaTensorShapes(config);
  std::vector<std::string> missing;
  for (const auto& [name, shape] : want) {
    const auto it = got.find(name);
    if (it == got.end()) {
      missing.push_back(absl::StrCat(name, " ", ShapeText(shape)));
    } else if (it->second != shape) {
      return absl::InvalidArgumentError(absl::StrCat(subject, ": tensor ", name, " has shape ",
                                                     ShapeText(it->second), ", want ",
                                                     ShapeText(shape), " by the config"));
    }
  }
  if (!missing.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        subject, ": has ", got.size(), " tensors without ", SomeOf(missing), ", want all ",
        want.size(), " of a Llama model with ", config.num_hidden_layers, " layers"));
  }
  std::vector<std::string> extra;
  for (const auto& [name, shape] : got) {
    if (!want.contains(name)) extra.push_back(absl::StrCat(name, " ", ShapeText(shape)));
  }
  if (extra.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(subject, ": has ", SomeOf(extra), ", want only the ", want.size(),
                   " tensors of a Llama model with ", config.num_hidden_layers, " layers",
                   config.tie_word_embeddings ? " and tied embeddings" : ""));
}

DType StoredDType(DType form, const std::vector<int64_t>& shape) {
  return shape.size() == 1 ? DType::kF32 : form;
}

}  // namespace deltaworks::trainer

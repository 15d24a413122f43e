#include "tests/gpu/block_of_weights.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/model/llama.h"
#include "trainer/model/llama_tensors.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kPeriod = 4'000'037;

}  // namespace

BlockOfWeights::BlockOfWeights(const ModelConfig& config)
    : block_(config.vocab_size * config.hidden_size + kPeriod), ones_(config.hidden_size, 1.0f) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  for (int64_t i = 0; i < kPeriod; ++i) block_[i] = BFloat16(normal(random));
  for (size_t i = kPeriod; i < block_.size(); i += kPeriod) {
    std::copy_n(block_.begin(), std::min<size_t>(kPeriod, block_.size() - i), &block_[i]);
  }
  for (const LinearModule& module : LlamaModules(config)) {
    Add(absl::StrCat(module.name, ".weight"), {module.n, module.k});
  }
  Add(kEmbeddingTensor, {config.vocab_size, config.hidden_size});
  if (!config.tie_word_embeddings) Add(kOutputTensor, {config.vocab_size, config.hidden_size});
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    AddNorm(LayerTensor(i, "input_layernorm"));
    AddNorm(LayerTensor(i, "post_attention_layernorm"));
  }
  AddNorm(kFinalNormTensor);
}

void BlockOfWeights::Add(const std::string& name, std::vector<int64_t> shape) {
  tensors_[name] =
      ConstTensorView(&block_[tensors_.size() * 7919 % kPeriod], DType::kBF16, std::move(shape));
}

void BlockOfWeights::AddNorm(const std::string& name) {
  tensors_[name] = ConstTensorView(ones_.data(), DType::kF32, {static_cast<int64_t>(ones_.size())});
}

}  // namespace deltaworks::trainer

#include "trainer/testing/random_model.h"

#include <cstring>
#include <random>

#include "trainer/model/llama_tensors.h"

namespace deltaworks::trainer {

ModelConfig SmallConfig() {
  ModelConfig config;
  config.vocab_size = 50;
  config.hidden_size = 24;
  config.intermediate_size = 40;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 6;
  config.max_position_embeddings = 256;
  config.rms_norm_eps = 1e-5;
  config.rope_theta = 10000;
  config.tie_word_embeddings = true;
  return config;
}

ModelConfig OddConfig() {
  ModelConfig config = SmallConfig();
  config.hidden_size = 66;
  config.intermediate_size = 71;
  config.vocab_size = 131;
  config.num_attention_heads = 3;
  config.num_key_value_heads = 1;
  config.head_dim = 22;
  return config;
}

RandomModel::RandomModel(const ModelConfig& config, DType form, uint64_t seed) : config_(config) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (const auto& [name, shape] : LlamaTensorShapes(config)) {
    const DType dtype = StoredDType(form, shape);
    const ConstTensorView plan(nullptr, dtype, shape);
    std::string& bytes = storage_.emplace_back(plan.bytes(), '\0');
    for (int64_t i = 0; i < plan.elements(); ++i) {
      const float value = shape.size() == 1 ? 1 + 0.1f * normal(random) : 0.2f * normal(random);
      if (dtype == DType::kF32) {
        std::memcpy(&bytes[4 * i], &value, 4);
      } else {
        const BFloat16 rounded(value);
        std::memcpy(&bytes[2 * i], &rounded, 2);
      }
    }
    tensors_[name] = ConstTensorView(bytes.data(), dtype, shape);
  }
}

}  // namespace deltaworks::trainer

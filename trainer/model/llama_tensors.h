// The tensors of a Llama model: which there are, how they are called (Hugging Face's names) and of
// which shape. Import, the mapped weights and everything that walks a model ask here.
//
//   model.embed_tokens.weight                              [vocab_size, hidden_size]
//   model.layers.N.input_layernorm.weight                  [hidden_size]
//   model.layers.N.self_attn.q_proj.weight                 [heads * head_dim, hidden_size]
//   model.layers.N.self_attn.k_proj.weight, v_proj         [key_value_heads * head_dim,
//   hidden_size] model.layers.N.self_attn.o_proj.weight                 [hidden_size, heads *
//   head_dim] model.layers.N.post_attention_layernorm.weight         [hidden_size]
//   model.layers.N.mlp.gate_proj.weight, up_proj           [intermediate_size, hidden_size]
//   model.layers.N.mlp.down_proj.weight                    [hidden_size, intermediate_size]
//   model.norm.weight                                      [hidden_size]
//   lm_head.weight, unless the embeddings are tied         [vocab_size, hidden_size]
//
// Pure functions, thread-safe.

#ifndef DELTAWORKS_TRAINER_MODEL_LLAMA_TENSORS_H_
#define DELTAWORKS_TRAINER_MODEL_LLAMA_TENSORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "trainer/model/config.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

inline constexpr char kEmbeddingTensor[] = "model.embed_tokens.weight";
inline constexpr char kFinalNormTensor[] = "model.norm.weight";
inline constexpr char kOutputTensor[] = "lm_head.weight";

// "model.layers.3.self_attn.q_proj.weight" for (3, "self_attn.q_proj").
std::string LayerTensor(int64_t layer, absl::string_view module);

// Shapes by name, in byte order of the names.
using ShapeMap = std::map<std::string, std::vector<int64_t>>;

// The tensors that a model of this (valid) config has.
ShapeMap LlamaTensorShapes(const ModelConfig& config);

// The elements of all of them.
int64_t LlamaParameters(const ModelConfig& config);

// Whether `got` is exactly LlamaTensorShapes(config). InvalidArgument, beginning with `subject`,
// names what is missing, what is too much, or the tensor of another shape with both shapes.
absl::Status CheckLlamaTensors(const ModelConfig& config, const ShapeMap& got,
                               absl::string_view subject);

// The type in which a base model of `form` stores a tensor of this shape: norm weights, the only
// ones of one dimension, are F32 in every form (they are few and enter f32 arithmetic).
DType StoredDType(DType form, const std::vector<int64_t>& shape);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_MODEL_LLAMA_TENSORS_H_

// ModelConfig: the shape of a model, under Hugging Face's field names.
//
// Parse() reads a config.json of Hugging Face (transformers 4 and 5 write it differently) and
// refuses what the trainer would compute wrongly, with what was got and what is supported. Only
// the Llama architecture is supported: no bias, no sliding window, no quantised weights; RoPE
// unscaled or with Llama 3's scaling.
//
// ToJson() writes the normal form, which is what a stored base model has: equal models give equal
// bytes. transformers loads it. The form of the stored weights (bf16, f32) is not part of it: the
// config names the base whatever its form, so `torch_dtype` is what the source said, if it did.
//
// A value type. Errors are InvalidArgument: subject, got, want.

#ifndef DELTAWORKS_TRAINER_MODEL_CONFIG_H_
#define DELTAWORKS_TRAINER_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace deltaworks::trainer {

// RoPE for longer contexts as Llama 3.1 does it: with L = original_max_position_embeddings and the
// wavelength w = 2 pi / f of a rotation frequency f, the frequency becomes
//   f                               where w < L / high_freq_factor,
//   f / factor                      where w > L / low_freq_factor,
//   (1 - s) f / factor + s f        between, s = (L / w - low) / (high - low).
struct Llama3RopeScaling {
  double factor = 8;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int64_t original_max_position_embeddings = 8192;

  bool operator==(const Llama3RopeScaling&) const = default;
};

struct ModelConfig {
  int64_t vocab_size = 0;  // Rows of the embedding; the tokenizer may know fewer tokens.
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;  // Of the feed-forward network.
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;      // Divides num_attention_heads.
  int64_t head_dim = 0;                 // Even, at most 256; not always hidden_size / heads.
  int64_t max_position_embeddings = 0;  // The longest sequence in tokens.
  double rms_norm_eps = 0;
  double rope_theta = 0;
  std::optional<Llama3RopeScaling> rope_scaling;
  bool tie_word_embeddings = false;  // True: the output layer is the embedding.
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;  // Each ends a generation.
  std::optional<int64_t> pad_token_id;
  std::optional<std::string> torch_dtype;

  bool operator==(const ModelConfig&) const = default;

  // `subject` begins every message. What comes back is valid.
  static absl::StatusOr<ModelConfig> Parse(absl::string_view text,
                                           absl::string_view subject = "config.json");

  // Whether every field is within the bounds that the rest of the trainer relies on: each size is
  // positive and small enough that no product of two shapes overflows.
  absl::Status Validate(absl::string_view subject) const;

  std::string ToJson() const;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_MODEL_CONFIG_H_

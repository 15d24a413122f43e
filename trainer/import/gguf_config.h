// The config of the model in a GGUF file, from its metadata (llama.*, tokenizer.ggml.*).
//
// GGUF has no field for Llama 3's RoPE scaling: llama.cpp's converter stores its effect, one factor
// per frequency, in the tensor rope_freqs.weight. It is recognised by recomputing it with the
// constants that every Llama 3.x has; factors that are not these are refused.

#ifndef DELTAWORKS_TRAINER_IMPORT_GGUF_CONFIG_H_
#define DELTAWORKS_TRAINER_IMPORT_GGUF_CONFIG_H_

#include "absl/status/statusor.h"
#include "trainer/formats/gguf.h"
#include "trainer/model/config.h"

namespace deltaworks::trainer {

inline constexpr char kGgufRopeFactors[] = "rope_freqs.weight";

// InvalidArgument for another architecture, or what the Llama architecture here does not have:
// experts, scaled or partial RoPE of other kinds, heads that differ by layer.
absl::StatusOr<ModelConfig> GgufModelConfig(const Gguf& gguf);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_IMPORT_GGUF_CONFIG_H_

// LoraConfig: which linears of a base a job adapts, with which rank and scale (Hu et al. 2021,
// "LoRA: Low-Rank Adaptation of Large Language Models", section 4). Field names and their meaning
// are PEFT's.

#ifndef DELTAWORKS_TRAINER_LORA_LORA_CONFIG_H_
#define DELTAWORKS_TRAINER_LORA_LORA_CONFIG_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace deltaworks::trainer {

inline constexpr int64_t kRankMax = 1024;

// A linear of the base that an adapter may target.
struct LinearModule {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  int64_t n = 0;     // Output features.
  int64_t k = 0;     // Input features.
  int64_t layer = 0;
  int64_t slot = 0;  // Number within the layer, as the model counts its linears.
};

struct LoraConfig {
  int64_t rank = 8;         // 1..kRankMax.
  double lora_alpha = 16;   // Finite, > 0.
  double lora_dropout = 0;  // In [0, 1).
  // Names of modules or their last parts ("q_proj"), or the one word "all-linear".
  std::vector<std::string> target_modules = {"all-linear"};
  // Other ranks and alphas for single modules; a key matches like an entry of target_modules.
  std::map<std::string, int64_t> rank_pattern;
  std::map<std::string, double> alpha_pattern;
  bool use_rslora =
      false;  // Scale alpha / sqrt(rank) (Kalajdzievski 2023) instead of alpha / rank.
};

// One adapted linear.
struct LoraTarget {
  LinearModule module;
  int64_t rank = 0;
  double lora_alpha = 0;
  float scale = 0;

  int64_t parameters() const { return rank * (module.n + module.k); }
};

// The linears of `modules` that `config` adapts, sorted by name. InvalidArgument, naming the field,
// what it is and what is wanted, for a value out of bounds or a target that no module has.
absl::StatusOr<std::vector<LoraTarget>> ResolveTargets(const LoraConfig& config,
                                                       absl::Span<const LinearModule> modules);

// Sum of parameters().
int64_t TrainableParameters(absl::Span<const LoraTarget> targets);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_LORA_LORA_CONFIG_H_

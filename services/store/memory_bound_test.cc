// A bound is a bound: what the trainer itself says it takes must never be more.

#include "services/store/memory_bound.h"

#include <algorithm>

#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/lora/adapter.h"
#include "trainer/model/llama.h"
#include "trainer/model/workspace.h"
#include "trainer/testing/random_model.h"

namespace deltaworks::services {
namespace {

trainer::ModelConfig SmallLlama() {
  trainer::ModelConfig config;
  config.vocab_size = 49'152;
  config.hidden_size = 576;
  config.intermediate_size = 1536;
  config.num_hidden_layers = 30;
  config.num_attention_heads = 9;
  config.num_key_value_heads = 3;
  config.head_dim = 64;
  config.max_position_embeddings = 8192;
  return config;
}

trainer::LoraConfig Lora(int64_t rank, std::vector<std::string> targets) {
  trainer::LoraConfig lora;
  lora.rank = rank;
  lora.target_modules = std::move(targets);
  return lora;
}

TEST(MemoryBoundTest, TheTrainersOwnSumIsNeverAboveTheBound) {
  const trainer::ModelConfig config = SmallLlama();
  const auto backend = *trainer::NewCpuBackend({.compute_type = trainer::DType::kF32});
  for (const auto& lora :
       {Lora(1, {"q_proj"}), Lora(8, {"all-linear"}), Lora(256, {"down_proj", "gate_proj"})}) {
    const auto targets = *trainer::ResolveTargets(lora, trainer::LlamaModules(config));
    for (const int64_t tokens : {2, 33, 2048, 8192}) {
      trainer::WorkspaceSize size{.rows = tokens, .labels = tokens, .training = true};
      // All layers are alike here.
      for (const trainer::LoraTarget& target : targets) {
        if (target.module.layer != 0) continue;
        static constexpr int kGroups[] = {0, 0, 0, 1, 2, 2, 3};
        size.hidden[kGroups[target.module.slot]] += target.rank;
      }
      EXPECT_EQ(trainer::HiddenColumns(targets), size.hidden) << "rank " << lora.rank;
      const int64_t actual = trainer::Workspace::Bytes(*backend, config, size) +
                             trainer::Adapter::Bytes(*backend, targets, /*trainable=*/true);
      const int64_t bound = MemoryBound(config, targets, {.micro_batch_tokens = tokens});
      EXPECT_LE(actual, bound) << "rank " << lora.rank << ", " << tokens << " tokens";
      const int64_t copies = 19 * 4 * trainer::TrainableParameters(targets);
      EXPECT_LE(bound, 2 * actual + copies + (int64_t{1} << 30)) << "a bound that says nothing";
    }
  }
}

// A worker of half a gibibyte can train a toy.
TEST(MemoryBoundTest, AModelOfFewNumbersNeedsLittle) {
  const trainer::ModelConfig config = trainer::SmallConfig();
  const auto targets =
      *trainer::ResolveTargets(Lora(8, {"all-linear"}), trainer::LlamaModules(config));
  EXPECT_LE(MemoryBound(config, targets, {.micro_batch_tokens = 256}), int64_t{512} << 20);
}

TEST(MemoryBoundTest, BaseAndDataCountInFull) {
  const trainer::ModelConfig config = SmallLlama();
  const auto targets =
      *trainer::ResolveTargets(Lora(8, {"all-linear"}), trainer::LlamaModules(config));
  const int64_t without = MemoryBound(config, targets, {.micro_batch_tokens = 2048});
  const int64_t with =
      MemoryBound(config, targets,
                  {.base_bytes = 1'000'000, .micro_batch_tokens = 2048, .data_tokens = 1'000'000});
  EXPECT_GE(with - without, 1'000'000 + 5'000'000);
}

}  // namespace
}  // namespace deltaworks::services

// Store and worker each say what memory a job needs: the store before any worker is known, so that
// the scheduler can place it; the worker with its backend at hand, so that it can refuse it. The
// first must never be less than the second, or a job would be placed where it cannot run.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "services/store/memory_bound.h"
#include "services/worker/memory_plan.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/llama.h"

namespace deltaworks::services {
namespace {

// The shape of SmolLM2-135M with another vocabulary and depth.
trainer::ModelConfig Config(int64_t vocabulary, int64_t layers) {
  trainer::ModelConfig config;
  config.vocab_size = vocabulary;
  config.hidden_size = 576;
  config.intermediate_size = 1'536;
  config.num_hidden_layers = layers;
  config.num_attention_heads = 9;
  config.num_key_value_heads = 3;
  config.head_dim = 64;
  config.max_position_embeddings = 8'192;
  return config;
}

TEST(MemoryTest, TheStoresBoundIsNeverBelowTheWorkersPlan) {
  constexpr int64_t kBaseBytes = int64_t{257} << 20;
  trainer::TrainingData data;
  data.train.resize(2'000,
                    {.ids = std::vector<int32_t>(20), .is_label = std::vector<bool>(20, true)});
  for (const trainer::DType type : {trainer::DType::kF32, trainer::DType::kBF16}) {
    for (const int threads : {1, 2, 64})
      for (const auto& config : {Config(49'152, 30), Config(151'936, 2), Config(300, 2)}) {
        const auto backend = *trainer::NewCpuBackend({.compute_type = type, .threads = threads});
        for (const int64_t rank : {1, 8, 64, 1'024}) {
          for (const std::vector<std::string>& modules :
               {std::vector<std::string>{"all-linear"}, std::vector<std::string>{"q_proj"}}) {
            const auto targets = *trainer::ResolveTargets({.rank = rank, .target_modules = modules},
                                                          trainer::LlamaModules(config));
            for (const int64_t tokens : {2, 2'048, 8'192}) {
              const MemoryNeed need = {.base_bytes = kBaseBytes,
                                       .compute_bytes = trainer::SizeOf(type),
                                       .micro_batch_tokens = tokens,
                                       .data_tokens = 2'000 * 20};
              EXPECT_GE(
                  MemoryBound(config, targets, need),
                  PlanMemory(*backend, config, kBaseBytes, targets, tokens, data).total_bytes())
                  << trainer::NameOf(type) << ", rank " << rank << ", " << modules[0] << ", "
                  << tokens << " tokens, vocabulary " << config.vocab_size;
            }
          }
        }
      }
  }
}

}  // namespace
}  // namespace deltaworks::services

// A bound is a bound: what the trainer itself says it takes must never be more. For jobs that train
// together, and the worker's plan of them: tests/parity.

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

v1::MemoryNeed NeedOf(const trainer::ModelConfig& config, const trainer::LoraConfig& lora,
                      const JobSize& size) {
  return MemoryNeedOf(config, *trainer::ResolveTargets(lora, trainer::LlamaModules(config)), size);
}
int64_t BoundOf(const trainer::ModelConfig& config, const trainer::LoraConfig& lora,
                const JobSize& size) {
  return MemoryBound({NeedOf(config, lora, size)});
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
      const int64_t bound = BoundOf(config, lora, {.micro_batch_tokens = tokens});
      EXPECT_LE(actual, bound) << "rank " << lora.rank << ", " << tokens << " tokens";
      const int64_t copies = 19 * 4 * trainer::TrainableParameters(targets);
      EXPECT_LE(bound, 2 * actual + copies + (int64_t{1} << 30)) << "a bound that says nothing";
    }
  }
}

// proto/deltaworks/v1/job.proto has the formula, and the scheduler adds up with it.
TEST(MemoryBoundTest, PartsOfJobsAddUpAsTheProtoSays) {
  v1::MemoryNeed a, b;
  a.set_base_bytes(1'000'000'000);
  b.set_base_bytes(1'000'000'000);
  a.set_own_bytes(10);
  b.set_own_bytes(30);
  a.set_rows(3);
  b.set_rows(4);
  a.set_row_bytes(1'000);
  b.set_row_bytes(1'000);
  a.set_pass_bytes(500'000);
  b.set_pass_bytes(600'000);
  for (const int64_t bytes : {1, 20, 0, 7}) a.add_hidden_row_bytes(bytes);
  for (const int64_t bytes : {10, 2, 0, 7}) b.add_hidden_row_bytes(bytes);
  EXPECT_EQ(MemoryBound({a}), 1'000'000'000 + 10 + 500'000 + 3 * (1'000 + 1 + 20 + 0 + 7));
  EXPECT_EQ(MemoryBound({a, b}), 1'000'000'000 + 40 + 600'000 + 7 * (1'000 + 10 + 20 + 0 + 7));
  EXPECT_EQ(MemoryBound({b, a}), MemoryBound({a, b}));
}

TEST(MemoryBoundTest, HiddenColumnsCountInTheirGroupAndAllElseIsTheSameWhateverTheRank) {
  const trainer::ModelConfig config = SmallLlama();
  const JobSize size = {.compute_bytes = 2, .micro_batch_tokens = 1'000};
  const v1::MemoryNeed query = NeedOf(config, Lora(8, {"q_proj"}), size);
  const v1::MemoryNeed all = NeedOf(config, Lora(16, {"all-linear"}), size);
  ASSERT_EQ(query.hidden_row_bytes_size(), trainer::kLinearGroups);
  ASSERT_EQ(all.hidden_row_bytes_size(), trainer::kLinearGroups);
  // In every layer at least.
  EXPECT_GE(query.hidden_row_bytes(trainer::kQkvGroup), 30 * 2 * 8);
  EXPECT_EQ(query.hidden_row_bytes(trainer::kOutGroup), 0);
  EXPECT_EQ(query.hidden_row_bytes(trainer::kGateUpGroup), 0);
  EXPECT_EQ(query.hidden_row_bytes(trainer::kDownGroup), 0);
  const int64_t column = query.hidden_row_bytes(trainer::kQkvGroup) / 8;
  EXPECT_EQ(all.hidden_row_bytes(trainer::kQkvGroup), 3 * 16 * column);
  EXPECT_EQ(all.hidden_row_bytes(trainer::kOutGroup), 16 * column);
  EXPECT_EQ(all.hidden_row_bytes(trainer::kGateUpGroup), 2 * 16 * column);
  EXPECT_EQ(all.hidden_row_bytes(trainer::kDownGroup), 16 * column);
  EXPECT_EQ(query.rows(), all.rows());
  EXPECT_GE(query.rows(), 1'000);
  EXPECT_EQ(query.row_bytes(), all.row_bytes());
  EXPECT_EQ(query.base_bytes(), all.base_bytes());
}

TEST(MemoryBoundTest, JobsThatDifferLittleHaveTheSameOwnBytesAndLoseOneInSixteen) {
  const trainer::ModelConfig config = SmallLlama();
  const auto own = [&](int64_t data_tokens) {
    return NeedOf(config, Lora(8, {"all-linear"}),
                  {.micro_batch_tokens = 2'048, .data_tokens = data_tokens})
        .own_bytes();
  };
  EXPECT_EQ(own(1'000'000), own(1'010'000));
  for (int64_t tokens = 1'000; tokens < 4'000'000'000; tokens *= 3) {
    int64_t digits = own(tokens);
    while (digits % 2 == 0) digits /= 2;
    EXPECT_LT(digits, 32) << tokens << " tokens";
    // Ids and flags alone: more than 8 and at most 10 bytes of each.
    EXPECT_GE(own(tokens), 8 * tokens + own(0) * 15 / 16) << tokens << " tokens";
    EXPECT_LE(own(tokens), (9 * tokens + own(0)) * 17 / 16) << tokens << " tokens";
  }
}

// A worker of half a gibibyte can train a toy.
TEST(MemoryBoundTest, AModelOfFewNumbersNeedsLittle) {
  EXPECT_LE(BoundOf(trainer::SmallConfig(), Lora(8, {"all-linear"}), {.micro_batch_tokens = 256}),
            int64_t{512} << 20);
}

TEST(MemoryBoundTest, BaseAndDataCountInFull) {
  const JobSize without = {.micro_batch_tokens = 2'048};
  JobSize with = without;
  with.base_bytes = 1'000'000;
  with.data_examples = 10'000'000;
  with.data_tokens = 1'000'000'000;
  const auto need = NeedOf(SmallLlama(), Lora(8, {"all-linear"}), without);
  const auto more = NeedOf(SmallLlama(), Lora(8, {"all-linear"}), with);
  EXPECT_EQ(more.base_bytes() - need.base_bytes(), 1'000'000);
  EXPECT_GE(more.own_bytes(), int64_t{10'000'000} * 64 + int64_t{1'000'000'000} * 8);
}

}  // namespace
}  // namespace deltaworks::services

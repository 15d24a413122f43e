// The plan that decides whether a job is taken in, and that a failure shows: each part grows with
// what it belongs to and with nothing else.

#include "services/worker/memory_plan.h"

#include <memory>
#include <vector>

#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/llama.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

// The shape of SmolLM2-135M.
trainer::ModelConfig Config() {
  trainer::ModelConfig config;
  config.vocab_size = 49'152;
  config.hidden_size = 576;
  config.intermediate_size = 1'536;
  config.num_hidden_layers = 30;
  config.num_attention_heads = 9;
  config.num_key_value_heads = 3;
  config.head_dim = 64;
  config.max_position_embeddings = 8'192;
  return config;
}

class MemoryPlanTest : public ::testing::Test {
 protected:
  MemoryPlan Plan(int64_t rank, int64_t micro_batch_tokens, size_t examples = 0) {
    const auto targets = trainer::ResolveTargets({.rank = rank}, trainer::LlamaModules(Config()));
    CHECK(targets.ok()) << targets.status();
    parameters_ = trainer::TrainableParameters(*targets);
    trainer::TrainingData data;
    data.train.resize(examples,
                      {.ids = std::vector<int32_t>(128), .is_label = std::vector<bool>(128, true)});
    return PlanMemory(*backend_, Config(), /*base_bytes=*/257 * kMiB, *targets, micro_batch_tokens,
                      data);
  }

  std::unique_ptr<trainer::Backend> backend_ =
      *trainer::NewCpuBackend({.compute_type = trainer::DType::kBF16, .threads = 1});
  int64_t parameters_ = 0;
};

TEST_F(MemoryPlanTest, TheAdapterTakesItsMastersGradientMomentsAndRoundedCopy) {
  const MemoryPlan plan = Plan(/*rank=*/8, /*micro_batch_tokens=*/2'048);
  EXPECT_EQ(parameters_, 2'442'240);
  EXPECT_EQ(plan.adapter_bytes, parameters_ * (4 * 4 + 2));
  EXPECT_EQ(plan.base_bytes, 257 * kMiB);
}

TEST_F(MemoryPlanTest, TwiceTheRankIsTwiceTheAdapterAndItsCheckpoints) {
  const MemoryPlan one = Plan(8, 2'048), two = Plan(16, 2'048);
  EXPECT_EQ(two.adapter_bytes, 2 * one.adapter_bytes);
  EXPECT_EQ(two.checkpoint_bytes, 2 * one.checkpoint_bytes);
  EXPECT_EQ(two.data_bytes, one.data_bytes);
}

TEST_F(MemoryPlanTest, TwiceTheTokensIsAboutTwiceTheActivationsAndNothingElse) {
  const MemoryPlan one = Plan(8, 2'048), two = Plan(8, 4'096);
  EXPECT_NEAR(static_cast<double>(two.activation_bytes) / static_cast<double>(one.activation_bytes),
              2, 0.01);
  EXPECT_EQ(two.own_bytes(), one.own_bytes());
  EXPECT_LE(two.scratch_bytes, 2 * one.scratch_bytes);
}

// Hidden columns of a pass are those of its widest adapter, on all rows.
TEST_F(MemoryPlanTest, APassOfTwoNeedsMoreThanBothAloneIfTheOneIsWideAndTheOtherLong) {
  const MemoryPlan wide = Plan(64, 128), long_one = Plan(1, 2'048);
  const trainer::WorkspaceSize both = Together(wide.pass, long_one.pass);
  EXPECT_EQ(both.rows, 2'176);
  EXPECT_EQ(both.segments, 2);
  EXPECT_EQ(both.hidden, wide.pass.hidden);
  // 30 layers, 3 + 1 + 2 + 1 linears, 63 more columns of 2 bytes on 2,048 rows.
  EXPECT_GT(trainer::Workspace::Bytes(*backend_, Config(), both),
            wide.activation_bytes + long_one.activation_bytes + 30 * 7 * 63 * 2 * 2'048);
}

TEST_F(MemoryPlanTest, ExamplesCountWithAtLeastTheirIdsAndFlags) {
  EXPECT_EQ(Plan(8, 2'048).data_bytes, 0);
  EXPECT_GE(Plan(8, 2'048, /*examples=*/1'000).data_bytes, 1'000 * 128 * 4);
}

TEST_F(MemoryPlanTest, TheTextNamesEveryPart) {
  const std::string text = Plan(8, 2'048, 1'000).Text();
  for (const char* part : {"base 257 MiB", "adapter 42 MiB", "activations", "scratch", "data 2 MiB",
                           "checkpoints", "probe"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

}  // namespace
}  // namespace deltaworks::services

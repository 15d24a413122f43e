#include "trainer/lora/lora_config.h"

#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

std::vector<LinearModule> TwoLayers() {
  std::vector<LinearModule> modules;
  for (int64_t layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    modules.push_back({prefix + ".self_attn.q_proj", 512, 64, layer, 0});
    modules.push_back({prefix + ".mlp.down_proj", 64, 128, layer, 1});
  }
  return modules;
}

std::string ErrorOf(const LoraConfig& config) {
  const auto targets = ResolveTargets(config, TwoLayers());
  EXPECT_TRUE(absl::IsInvalidArgument(targets.status())) << targets.status();
  return std::string(targets.status().message());
}

TEST(LoraConfigTest, OnlyAAndBOfTheTargetsAreTrained) {
  // The paper's own count: a 512 x 64 matrix at rank 8 trains 4,608 of 32,768 numbers.
  LoraConfig config{.rank = 8, .target_modules = {"model.layers.0.self_attn.q_proj"}};
  auto targets = ResolveTargets(config, TwoLayers());
  ASSERT_TRUE(targets.ok()) << targets.status();
  ASSERT_EQ(targets->size(), 1u);
  EXPECT_EQ(TrainableParameters(*targets), 4608);
  EXPECT_EQ((*targets)[0].module.n * (*targets)[0].module.k, 32768);
}

TEST(LoraConfigTest, AllLinearTakesEveryModuleInOrderOfNames) {
  auto targets = ResolveTargets(LoraConfig{}, TwoLayers());
  ASSERT_TRUE(targets.ok()) << targets.status();
  ASSERT_EQ(targets->size(), 4u);
  EXPECT_EQ((*targets)[0].module.name, "model.layers.0.mlp.down_proj");
  EXPECT_EQ((*targets)[3].module.name, "model.layers.1.self_attn.q_proj");
  EXPECT_EQ((*targets)[0].scale, 2.0f);
}

TEST(LoraConfigTest, ALastPartMatchesOnlyAfterADot) {
  EXPECT_EQ(ErrorOf({.target_modules = {"proj"}}),
            "target_modules has \"proj\", want a module of this base: down_proj, q_proj, or "
            "all-linear");
}

TEST(LoraConfigTest, PatternsChangeRankAndAlphaOfSingleModulesAndTheLongestKeyWins) {
  LoraConfig config{.rank = 4, .lora_alpha = 8};
  config.rank_pattern = {{"q_proj", 16}, {"model.layers.1.self_attn.q_proj", 9}};
  config.alpha_pattern = {{"down_proj", 2}};
  config.use_rslora = true;
  auto targets = ResolveTargets(config, TwoLayers());
  ASSERT_TRUE(targets.ok()) << targets.status();
  EXPECT_EQ((*targets)[0].scale, 2.0f / 2.0f);
  EXPECT_EQ((*targets)[1].rank, 16);
  EXPECT_EQ((*targets)[1].scale, 8.0f / 4.0f);
  EXPECT_EQ((*targets)[3].rank, 9);
}

TEST(LoraConfigTest, ValuesOutOfBoundsAreNamed) {
  EXPECT_EQ(ErrorOf({.rank = 0}), "rank is 0, want 1..1024");
  EXPECT_EQ(ErrorOf({.rank = 1025}), "rank is 1025, want 1..1024");
  EXPECT_EQ(ErrorOf({.lora_alpha = 0}), "lora_alpha is 0, want a number above 0");
  EXPECT_EQ(ErrorOf({.lora_alpha = std::numeric_limits<double>::infinity()}),
            "lora_alpha is inf, want a number above 0");
  EXPECT_EQ(ErrorOf({.lora_dropout = 1}), "lora_dropout is 1, want 0 <= p < 1");
  EXPECT_EQ(ErrorOf({.lora_dropout = std::nan("")}), "lora_dropout is nan, want 0 <= p < 1");
  EXPECT_EQ(ErrorOf({.target_modules = {}}),
            "target_modules is empty, want all-linear or some of: down_proj, q_proj");
  EXPECT_EQ(ErrorOf({.rank_pattern = {{"x", 3}}}),
            "rank_pattern has \"x\", want a module of this base: down_proj, q_proj");
  EXPECT_EQ(ErrorOf({.rank_pattern = {{"q_proj", 0}}}),
            "rank_pattern[\"q_proj\"] is 0, want 1..1024");
  EXPECT_EQ(ErrorOf({.alpha_pattern = {{"q_proj", -1}}}),
            "alpha_pattern[\"q_proj\"] is -1, want a number above 0");
}

}  // namespace
}  // namespace deltaworks::trainer

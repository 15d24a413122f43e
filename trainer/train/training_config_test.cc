#include "trainer/train/training_config.h"

#include <cmath>
#include <limits>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

TEST(TrainingConfigTest, TheDefaultsAreValid) {
  EXPECT_TRUE(CheckTrainingConfig(TrainingConfig{}).ok());
}

TEST(TrainingConfigTest, AValueOutOfBoundsIsNamed) {
  const auto error = [](TrainingConfig config) {
    return std::string(CheckTrainingConfig(config).message());
  };
  EXPECT_EQ(error({.learning_rate = 0}), "learning_rate is 0, want 0 < rate <= 10");
  EXPECT_EQ(error({.learning_rate = std::nan("")}), "learning_rate is nan, want 0 < rate <= 10");
  EXPECT_EQ(error({.num_train_epochs = -1}), "num_train_epochs is -1, want 0 < epochs <= 10000");
  EXPECT_EQ(error({.max_steps = -1}), "max_steps is -1, want 0..100000000");
  EXPECT_EQ(error({.per_device_train_batch_size = 0}),
            "per_device_train_batch_size is 0, want 1..65536");
  EXPECT_EQ(error({.gradient_accumulation_steps = 0}),
            "gradient_accumulation_steps is 0, want 1..65536");
  EXPECT_EQ(error({.warmup_ratio = 1.5}), "warmup_ratio is 1.5, want 0 <= ratio <= 1");
  EXPECT_EQ(error({.weight_decay = 2}), "weight_decay is 2, want 0 <= decay <= 1");
  EXPECT_EQ(error({.adam_beta1 = 1}), "adam_beta1 is 1, want 0 <= beta < 1");
  EXPECT_EQ(error({.adam_epsilon = 0}), "adam_epsilon is 0, want a number above 0");
  EXPECT_EQ(error({.max_grad_norm = std::numeric_limits<double>::infinity()}),
            "max_grad_norm is inf, want 0 or above");
  EXPECT_EQ(error({.micro_batch_tokens = 1}), "micro_batch_tokens is 1, want 2..131072");
}

TEST(TotalStepsTest, TheLastStepOfAnEpochTakesWhatIsLeft) {
  TrainingConfig config{.num_train_epochs = 2, .per_device_train_batch_size = 4};
  EXPECT_EQ(TotalSteps(config, 9), 6);
  config.gradient_accumulation_steps = 2;
  EXPECT_EQ(TotalSteps(config, 9), 4);
  config.num_train_epochs = 0.5;
  EXPECT_EQ(TotalSteps(config, 9), 1);
  config.max_steps = 7;
  EXPECT_EQ(TotalSteps(config, 9), 7);
}

std::vector<double> Rates(const TrainingConfig& config, int64_t total) {
  std::vector<double> rates;
  for (int64_t step = 1; step <= total; ++step) rates.push_back(LearningRate(config, step, total));
  return rates;
}

TEST(LearningRateTest, LinearWarmsUpFromZeroAndEndsAboveZero) {
  const TrainingConfig config{.learning_rate = 1, .warmup_steps = 2};
  EXPECT_EQ(Rates(config, 6), (std::vector<double>{0, 0.5, 1, 0.75, 0.5, 0.25}));
}

TEST(LearningRateTest, CosineIsHalfAPeriod) {
  const TrainingConfig config{.learning_rate = 1, .lr_scheduler_type = LrSchedulerType::kCosine};
  const std::vector<double> rates = Rates(config, 4);
  EXPECT_EQ(rates[0], 1);
  EXPECT_NEAR(rates[2], 0.5, 1e-15);
  EXPECT_NEAR(rates[3], 0.5 * (1 - std::sqrt(0.5)), 1e-15);
}

TEST(LearningRateTest, ConstantStaysAndAWarmupMayLead) {
  TrainingConfig config{.learning_rate = 2, .lr_scheduler_type = LrSchedulerType::kConstant};
  config.warmup_steps = 2;
  EXPECT_EQ(Rates(config, 3), (std::vector<double>{2, 2, 2}));
  config.lr_scheduler_type = LrSchedulerType::kConstantWithWarmup;
  EXPECT_EQ(Rates(config, 3), (std::vector<double>{0, 1, 2}));
}

TEST(LearningRateTest, AWarmupRatioIsRoundedUp) {
  TrainingConfig config{.learning_rate = 1, .warmup_ratio = 0.3};
  config.lr_scheduler_type = LrSchedulerType::kConstantWithWarmup;
  EXPECT_EQ(Rates(config, 5), (std::vector<double>{0, 0.5, 1, 1, 1}));
}

TEST(CanonicalTextTest, EveryFieldCounts) {
  const std::string text = CanonicalText(TrainingConfig{});
  std::vector<TrainingConfig> others(10);
  others[0].lora.rank = 9;
  others[1].lora.rank_pattern["q_proj"] = 2;
  others[2].lora.use_rslora = true;
  others[3].learning_rate = std::nextafter(2e-4, 1);
  others[4].seed = 43;
  others[5].max_grad_norm = 0;
  others[6].micro_batch_tokens = 2049;
  others[7].lr_scheduler_type = LrSchedulerType::kCosine;
  others[8].lora.target_modules = {"q_proj"};
  others[9].eval_steps = 5;
  for (const TrainingConfig& other : others) EXPECT_NE(CanonicalText(other), text);
  EXPECT_EQ(CanonicalText(TrainingConfig{}), text);
}

}  // namespace
}  // namespace deltaworks::trainer

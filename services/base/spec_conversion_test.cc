#include "services/base/spec_conversion.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(SpecConversionTest, AnEmptySpecTakesTheDefaultsOfTheContract) {
  const trainer::TrainingConfig config = ToTrainingConfig(v1::TrainSpec());
  EXPECT_EQ(config.lora.rank, 8);
  EXPECT_EQ(config.lora.lora_alpha, 8);
  EXPECT_THAT(config.lora.target_modules, ElementsAre("all-linear"));
  EXPECT_EQ(config.learning_rate, 2e-4);
  EXPECT_EQ(config.num_train_epochs, 3);
  EXPECT_EQ(config.per_device_train_batch_size, 8);
  EXPECT_EQ(config.gradient_accumulation_steps, 1);
  EXPECT_EQ(config.lr_scheduler_type, trainer::LrSchedulerType::kLinear);
  EXPECT_EQ(config.adam_beta1, 0.9);
  EXPECT_EQ(config.adam_beta2, 0.999);
  EXPECT_EQ(config.adam_epsilon, 1e-8);
  EXPECT_EQ(config.max_grad_norm, 1);
  EXPECT_EQ(config.seed, 42u);
  EXPECT_EQ(config.micro_batch_tokens, 2048);
  const trainer::TextSettings text = ToTextSettings(v1::TextSettings());
  EXPECT_EQ(text.max_length, 1024);
  EXPECT_EQ(text.truncation, trainer::Truncation::kError);
  EXPECT_EQ(text.train_on, trainer::TrainOn::kAssistantAll);
}

TEST(SpecConversionTest, EveryFieldIsTaken) {
  v1::TrainSpec spec;
  auto& lora = *spec.mutable_lora();
  lora.set_rank(4);
  lora.set_lora_alpha(32);
  lora.set_lora_dropout(0.1);
  lora.add_target_modules("q_proj");
  (*lora.mutable_rank_pattern())["v_proj"] = 2;
  (*lora.mutable_alpha_pattern())["v_proj"] = 3;
  lora.set_use_rslora(true);
  auto& arguments = *spec.mutable_arguments();
  arguments.set_learning_rate(1e-3);
  arguments.set_num_train_epochs(0.5);
  arguments.set_max_steps(9);
  arguments.set_per_device_train_batch_size(3);
  arguments.set_gradient_accumulation_steps(5);
  arguments.set_lr_scheduler_type(v1::TrainingArguments::COSINE);
  arguments.set_warmup_ratio(0.25);
  arguments.set_warmup_steps(6);
  arguments.set_weight_decay(0.01);
  arguments.set_adam_beta1(0.8);
  arguments.set_adam_beta2(0.95);
  arguments.set_adam_epsilon(1e-6);
  arguments.set_max_grad_norm(0);
  arguments.set_seed(0);
  arguments.set_eval_steps(7);
  spec.set_micro_batch_tokens(512);
  const trainer::TrainingConfig config = ToTrainingConfig(spec);
  EXPECT_EQ(config.lora.rank, 4);
  EXPECT_EQ(config.lora.lora_alpha, 32);
  EXPECT_EQ(config.lora.lora_dropout, 0.1);
  EXPECT_THAT(config.lora.target_modules, ElementsAre("q_proj"));
  EXPECT_THAT(config.lora.rank_pattern, ElementsAre(Pair("v_proj", 2)));
  EXPECT_THAT(config.lora.alpha_pattern, ElementsAre(Pair("v_proj", 3)));
  EXPECT_TRUE(config.lora.use_rslora);
  EXPECT_EQ(config.learning_rate, 1e-3);
  EXPECT_EQ(config.num_train_epochs, 0.5);
  EXPECT_EQ(config.max_steps, 9);
  EXPECT_EQ(config.examples_per_step(), 15);
  EXPECT_EQ(config.lr_scheduler_type, trainer::LrSchedulerType::kCosine);
  EXPECT_EQ(config.warmup_ratio, 0.25);
  EXPECT_EQ(config.warmup_steps, 6);
  EXPECT_EQ(config.weight_decay, 0.01);
  EXPECT_EQ(config.adam_beta1, 0.8);
  EXPECT_EQ(config.adam_beta2, 0.95);
  EXPECT_EQ(config.adam_epsilon, 1e-6);
  EXPECT_EQ(config.max_grad_norm, 0);
  EXPECT_EQ(config.seed, 0u);
  EXPECT_EQ(config.eval_steps, 7);
  EXPECT_EQ(config.micro_batch_tokens, 512);

  v1::TextSettings text;
  text.set_max_length(77);
  text.set_truncation(v1::TextSettings::SKIP);
  text.set_train_on(v1::TextSettings::ALL_TOKENS);
  EXPECT_EQ(ToTextSettings(text).max_length, 77);
  EXPECT_EQ(ToTextSettings(text).truncation, trainer::Truncation::kSkip);
  EXPECT_EQ(ToTextSettings(text).train_on, trainer::TrainOn::kAllTokens);
}

TEST(SpecConversionTest, NumberTypesMapBothWays) {
  EXPECT_EQ(ToDType(v1::BF16), trainer::DType::kBF16);
  EXPECT_EQ(ToNumberType(trainer::DType::kBF16), v1::BF16);
  EXPECT_EQ(ToNumberType(ToDType(v1::F32)), v1::F32);
  EXPECT_EQ(ToNumberType(ToDType(v1::FP8)), v1::FP8);
  EXPECT_EQ(ToDType(v1::FP8), trainer::DType::kF8E4M3);
}

}  // namespace
}  // namespace deltaworks::services

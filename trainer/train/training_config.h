// TrainingConfig: how one job trains. Names, meaning and defaults are those of transformers'
// TrainingArguments, where it has them.

#ifndef DELTAWORKS_TRAINER_TRAIN_TRAINING_CONFIG_H_
#define DELTAWORKS_TRAINER_TRAIN_TRAINING_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "trainer/lora/lora_config.h"

namespace deltaworks::trainer {

enum class LrSchedulerType { kLinear, kCosine, kConstant, kConstantWithWarmup };

struct TrainingConfig {
  LoraConfig lora;
  double learning_rate = 2e-4;              // > 0.
  double num_train_epochs = 3;              // > 0; ignored if max_steps is set.
  int64_t max_steps = 0;                    // 0: as many as the epochs need.
  int64_t per_device_train_batch_size = 8;  // Examples; times accumulation = examples of a step.
  int64_t gradient_accumulation_steps = 1;
  LrSchedulerType lr_scheduler_type = LrSchedulerType::kLinear;
  double warmup_ratio = 0;  // In [0, 1]; ignored if warmup_steps is set.
  int64_t warmup_steps = 0;
  double weight_decay = 0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1;  // 0: no clipping.
  uint64_t seed = 42;
  int64_t eval_steps = 0;  // 0: before the first and after the last step.
  // Rows of a pass that one job may take; part of what the job is, because sums over tokens are cut
  // there. No example may be longer.
  int64_t micro_batch_tokens = 2048;

  int64_t examples_per_step() const {
    return per_device_train_batch_size * gradient_accumulation_steps;
  }
};

// The config of a whole gang's steps: `members` times the examples. What each member is given is
// `config` itself.
TrainingConfig WholeBatch(TrainingConfig config, int members);

// InvalidArgument naming the first field out of bounds, its value and the bounds. The LoRA part is
// checked by ResolveTargets.
absl::Status CheckTrainingConfig(const TrainingConfig& config);

// Optimiser steps over `examples` examples: the last step of an epoch takes what is left of it.
int64_t TotalSteps(const TrainingConfig& config, int64_t examples);

// The rate of update `step` (from 1) of `total_steps`, as transformers' get_scheduler gives it: the
// schedule is evaluated at step - 1, so the first rate of a warm-up is 0.
double LearningRate(const TrainingConfig& config, int64_t step, int64_t total_steps);

// Every field on a line of its own, "name value", numbers in full: equal configs, equal text.
std::string CanonicalText(const TrainingConfig& config);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TRAIN_TRAINING_CONFIG_H_

#include "trainer/train/training_config.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

absl::Status CheckRange(absl::string_view field, double value, bool ok, absl::string_view want) {
  if (std::isfinite(value) && ok) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", want ", want));
}

absl::Status CheckCount(absl::string_view field, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", want ", min, "..", max));
}

int64_t WarmupSteps(const TrainingConfig& config, int64_t total_steps) {
  if (config.warmup_steps > 0) return config.warmup_steps;
  return static_cast<int64_t>(std::ceil(static_cast<double>(total_steps) * config.warmup_ratio));
}

// Share of the rate at `done` finished steps.
double ScheduleFactor(const TrainingConfig& config, int64_t done, int64_t total_steps) {
  const LrSchedulerType type = config.lr_scheduler_type;
  if (type == LrSchedulerType::kConstant) return 1;
  const int64_t warmup = WarmupSteps(config, total_steps);
  if (done < warmup) return static_cast<double>(done) / static_cast<double>(warmup);
  if (type == LrSchedulerType::kConstantWithWarmup) return 1;
  const double span = static_cast<double>(std::max<int64_t>(1, total_steps - warmup));
  if (type == LrSchedulerType::kLinear) {
    return std::max(0.0, static_cast<double>(total_steps - done) / span);
  }
  const double progress = static_cast<double>(done - warmup) / span;
  return std::max(0.0, 0.5 * (1 + std::cos(M_PI * progress)));
}

}  // namespace

absl::Status CheckTrainingConfig(const TrainingConfig& c) {
  constexpr int64_t kStepsMax = 100'000'000;
  DW_RETURN_IF_ERROR(CheckRange("learning_rate", c.learning_rate,
                                c.learning_rate > 0 && c.learning_rate <= 10, "0 < rate <= 10"));
  DW_RETURN_IF_ERROR(CheckRange("num_train_epochs", c.num_train_epochs,
                                c.num_train_epochs > 0 && c.num_train_epochs <= 10'000,
                                "0 < epochs <= 10000"));
  DW_RETURN_IF_ERROR(CheckCount("max_steps", c.max_steps, 0, kStepsMax));
  DW_RETURN_IF_ERROR(
      CheckCount("per_device_train_batch_size", c.per_device_train_batch_size, 1, 65'536));
  DW_RETURN_IF_ERROR(
      CheckCount("gradient_accumulation_steps", c.gradient_accumulation_steps, 1, 65'536));
  DW_RETURN_IF_ERROR(CheckRange("warmup_ratio", c.warmup_ratio,
                                c.warmup_ratio >= 0 && c.warmup_ratio <= 1, "0 <= ratio <= 1"));
  DW_RETURN_IF_ERROR(CheckCount("warmup_steps", c.warmup_steps, 0, kStepsMax));
  DW_RETURN_IF_ERROR(CheckRange("weight_decay", c.weight_decay,
                                c.weight_decay >= 0 && c.weight_decay <= 1, "0 <= decay <= 1"));
  DW_RETURN_IF_ERROR(CheckRange("adam_beta1", c.adam_beta1, c.adam_beta1 >= 0 && c.adam_beta1 < 1,
                                "0 <= beta < 1"));
  DW_RETURN_IF_ERROR(CheckRange("adam_beta2", c.adam_beta2, c.adam_beta2 >= 0 && c.adam_beta2 < 1,
                                "0 <= beta < 1"));
  DW_RETURN_IF_ERROR(
      CheckRange("adam_epsilon", c.adam_epsilon, c.adam_epsilon > 0, "a number above 0"));
  DW_RETURN_IF_ERROR(
      CheckRange("max_grad_norm", c.max_grad_norm, c.max_grad_norm >= 0, "0 or above"));
  DW_RETURN_IF_ERROR(CheckCount("eval_steps", c.eval_steps, 0, kStepsMax));
  return CheckCount("micro_batch_tokens", c.micro_batch_tokens, 2, 131'072);
}

int64_t TotalSteps(const TrainingConfig& config, int64_t examples) {
  if (config.max_steps > 0) return config.max_steps;
  const int64_t per_step = config.examples_per_step();
  const int64_t per_epoch = (examples + per_step - 1) / per_step;
  return static_cast<int64_t>(std::ceil(config.num_train_epochs * static_cast<double>(per_epoch)));
}

TrainingConfig WholeBatch(TrainingConfig config, int members) {
  config.per_device_train_batch_size *= members;
  return config;
}

double LearningRate(const TrainingConfig& config, int64_t step, int64_t total_steps) {
  return config.learning_rate * ScheduleFactor(config, step - 1, total_steps);
}

std::string CanonicalText(const TrainingConfig& c) {
  std::string text;
  const auto number = [&](absl::string_view name, double value) {
    absl::StrAppendFormat(&text, "%s %.17g\n", name, value);
  };
  const auto count = [&](absl::string_view name, int64_t value) {
    absl::StrAppend(&text, name, " ", value, "\n");
  };
  count("rank", c.lora.rank);
  number("lora_alpha", c.lora.lora_alpha);
  number("lora_dropout", c.lora.lora_dropout);
  for (const std::string& name : c.lora.target_modules) {
    absl::StrAppend(&text, "target_module ", name, "\n");
  }
  for (const auto& [key, rank] : c.lora.rank_pattern) count("rank_pattern " + key, rank);
  for (const auto& [key, alpha] : c.lora.alpha_pattern) number("alpha_pattern " + key, alpha);
  count("use_rslora", c.lora.use_rslora);
  number("learning_rate", c.learning_rate);
  number("num_train_epochs", c.num_train_epochs);
  count("max_steps", c.max_steps);
  count("per_device_train_batch_size", c.per_device_train_batch_size);
  count("gradient_accumulation_steps", c.gradient_accumulation_steps);
  count("lr_scheduler_type", static_cast<int64_t>(c.lr_scheduler_type));
  number("warmup_ratio", c.warmup_ratio);
  count("warmup_steps", c.warmup_steps);
  number("weight_decay", c.weight_decay);
  number("adam_beta1", c.adam_beta1);
  number("adam_beta2", c.adam_beta2);
  number("adam_epsilon", c.adam_epsilon);
  number("max_grad_norm", c.max_grad_norm);
  absl::StrAppend(&text, "seed ", c.seed, "\n");
  count("eval_steps", c.eval_steps);
  count("micro_batch_tokens", c.micro_batch_tokens);
  return text;
}

}  // namespace deltaworks::trainer

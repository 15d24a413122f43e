#include "services/base/spec_conversion.h"

#include <algorithm>

namespace deltaworks::services {
namespace {

trainer::LrSchedulerType ToScheduler(v1::TrainingArguments::LrSchedulerType type) {
  switch (type) {
    case v1::TrainingArguments::COSINE:
      return trainer::LrSchedulerType::kCosine;
    case v1::TrainingArguments::CONSTANT:
      return trainer::LrSchedulerType::kConstant;
    case v1::TrainingArguments::CONSTANT_WITH_WARMUP:
      return trainer::LrSchedulerType::kConstantWithWarmup;
    default:
      return trainer::LrSchedulerType::kLinear;
  }
}

int64_t MaxLength(const v1::TextSettings& text) {
  return text.has_max_length() ? text.max_length() : 1024;
}

}  // namespace

trainer::LoraConfig ToLoraConfig(const v1::LoraConfig& lora) {
  trainer::LoraConfig config;
  config.rank = lora.has_rank() ? lora.rank() : 8;
  config.lora_alpha = lora.has_lora_alpha() ? lora.lora_alpha() : 8;
  config.lora_dropout = lora.lora_dropout();
  if (lora.target_modules_size() > 0) {
    config.target_modules.assign(lora.target_modules().begin(), lora.target_modules().end());
  }
  config.rank_pattern.insert(lora.rank_pattern().begin(), lora.rank_pattern().end());
  config.alpha_pattern.insert(lora.alpha_pattern().begin(), lora.alpha_pattern().end());
  config.use_rslora = lora.use_rslora();
  return config;
}

trainer::TextSettings ToTextSettings(const v1::TextSettings& text) {
  trainer::TextSettings settings;
  settings.max_length = MaxLength(text);
  if (text.truncation() == v1::TextSettings::TRUNCATE) {
    settings.truncation = trainer::Truncation::kTruncate;
  } else if (text.truncation() == v1::TextSettings::SKIP) {
    settings.truncation = trainer::Truncation::kSkip;
  }
  if (text.train_on() == v1::TextSettings::ASSISTANT_LAST) {
    settings.train_on = trainer::TrainOn::kAssistantLast;
  } else if (text.train_on() == v1::TextSettings::ALL_TOKENS) {
    settings.train_on = trainer::TrainOn::kAllTokens;
  }
  return settings;
}

trainer::TrainingConfig ToTrainingConfig(const v1::TrainSpec& spec) {
  const v1::TrainingArguments& arguments = spec.arguments();
  trainer::TrainingConfig config;
  config.lora = ToLoraConfig(spec.lora());
  if (arguments.has_learning_rate()) config.learning_rate = arguments.learning_rate();
  if (arguments.has_num_train_epochs()) config.num_train_epochs = arguments.num_train_epochs();
  config.max_steps = arguments.max_steps();
  if (arguments.has_per_device_train_batch_size()) {
    config.per_device_train_batch_size = arguments.per_device_train_batch_size();
  }
  if (arguments.has_gradient_accumulation_steps()) {
    config.gradient_accumulation_steps = arguments.gradient_accumulation_steps();
  }
  config.lr_scheduler_type = ToScheduler(arguments.lr_scheduler_type());
  config.warmup_ratio = arguments.warmup_ratio();
  config.warmup_steps = arguments.warmup_steps();
  config.weight_decay = arguments.weight_decay();
  if (arguments.has_adam_beta1()) config.adam_beta1 = arguments.adam_beta1();
  if (arguments.has_adam_beta2()) config.adam_beta2 = arguments.adam_beta2();
  if (arguments.has_adam_epsilon()) config.adam_epsilon = arguments.adam_epsilon();
  if (arguments.has_max_grad_norm()) config.max_grad_norm = arguments.max_grad_norm();
  if (arguments.has_seed()) config.seed = static_cast<uint64_t>(arguments.seed());
  config.eval_steps = arguments.eval_steps();
  config.micro_batch_tokens = spec.has_micro_batch_tokens()
                                  ? spec.micro_batch_tokens()
                                  : std::max<int64_t>(2048, MaxLength(spec.text()));
  return config;
}

trainer::DType ToDType(v1::NumberType type) {
  if (type == v1::FP8) return trainer::DType::kF8E4M3;
  return type == v1::BF16 ? trainer::DType::kBF16 : trainer::DType::kF32;
}

v1::NumberType ToNumberType(trainer::DType dtype) {
  if (dtype == trainer::DType::kF32) return v1::F32;
  if (dtype == trainer::DType::kF8E4M3) return v1::FP8;
  return dtype == trainer::DType::kBF16 ? v1::BF16 : v1::NUMBER_TYPE_UNSPECIFIED;
}

}  // namespace deltaworks::services

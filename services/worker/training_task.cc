#include "services/worker/training_task.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

trainer::LoraConfig ToLoraConfig(const v1::LoraConfig& spec) {
  trainer::LoraConfig lora;
  lora.rank = spec.has_rank() ? spec.rank() : 8;
  lora.lora_alpha = spec.has_lora_alpha() ? spec.lora_alpha() : 8;
  lora.lora_dropout = spec.lora_dropout();
  if (!spec.target_modules().empty()) {
    lora.target_modules = {spec.target_modules().begin(), spec.target_modules().end()};
  }
  for (const auto& [name, rank] : spec.rank_pattern()) lora.rank_pattern[name] = rank;
  for (const auto& [name, alpha] : spec.alpha_pattern()) lora.alpha_pattern[name] = alpha;
  lora.use_rslora = spec.use_rslora();
  return lora;
}

trainer::LrSchedulerType ToSchedulerType(v1::TrainingArguments::LrSchedulerType type) {
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

int64_t MaxLength(const v1::TrainSpec& spec) {
  return spec.text().has_max_length() ? spec.text().max_length() : 1024;
}

}  // namespace

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
  config.lr_scheduler_type = ToSchedulerType(arguments.lr_scheduler_type());
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
                                  : std::max<int64_t>(2048, MaxLength(spec));
  return config;
}

trainer::TextSettings ToTextSettings(const v1::TrainSpec& spec) {
  trainer::TextSettings settings;
  settings.max_length = MaxLength(spec);
  switch (spec.text().truncation()) {
    case v1::TextSettings::TRUNCATE:
      settings.truncation = trainer::Truncation::kTruncate;
      break;
    case v1::TextSettings::SKIP:
      settings.truncation = trainer::Truncation::kSkip;
      break;
    default:
      settings.truncation = trainer::Truncation::kError;
  }
  switch (spec.text().train_on()) {
    case v1::TextSettings::ASSISTANT_LAST:
      settings.train_on = trainer::TrainOn::kAssistantLast;
      break;
    case v1::TextSettings::ALL_TOKENS:
      settings.train_on = trainer::TrainOn::kAllTokens;
      break;
    default:
      settings.train_on = trainer::TrainOn::kAssistantAll;
  }
  return settings;
}

trainer::DType ComputeTypeOf(const v1::TrainSpec& spec, const v1::TrainFacts& facts) {
  const v1::NumberType type =
      spec.compute_type() == v1::NUMBER_TYPE_UNSPECIFIED ? facts.base_form() : spec.compute_type();
  return type == v1::F32 ? trainer::DType::kF32 : trainer::DType::kBF16;
}

trainer::RunIdentity IdentityOf(const v1::TrainFacts& facts) {
  trainer::RunIdentity identity;
  identity.base_digest = facts.base_manifest_digest();
  identity.dataset_digest = facts.dataset_manifest_digest();
  if (!facts.validation_manifest_digest().empty()) {
    identity.dataset_digest = Sha256Digest(
        absl::StrCat(facts.dataset_manifest_digest(), "\n", facts.validation_manifest_digest()));
  }
  return identity;
}

v1::MetricPoint ToMetricPoint(const trainer::StepMetrics& metrics) {
  v1::MetricPoint point;
  point.set_step(metrics.step);
  point.set_loss(metrics.loss);
  point.set_learning_rate(metrics.learning_rate);
  point.set_grad_norm(metrics.grad_norm);
  point.set_tokens(metrics.tokens);
  if (metrics.eval_loss.has_value()) point.set_eval_loss(*metrics.eval_loss);
  return point;
}

}  // namespace deltaworks::services

#include "services/cli/train_flags.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "services/base/json_escape.h"
#include "services/cli/enum_text.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// Calls `set` with what was given, if anything.
template <typename T, typename Set>
void Give(const std::optional<T>& value, const Set& set) {
  if (value) set(*value);
}

// The same for an int32 field of the flag `name`.
template <typename Set>
absl::Status GiveInt32(const char* name, const std::optional<int64_t>& value, const Set& set) {
  if (!value) return absl::OkStatus();
  DW_RETURN_IF_ERROR(CheckInt32(absl::StrCat("--", name), *value));
  set(static_cast<int32_t>(*value));
  return absl::OkStatus();
}

using Resolver = absl::StatusOr<std::string> (*)(const CommandContext&, const std::string&,
                                                 const std::string&);

// The full name of what the flag, or else the file, says; nothing if neither does.
absl::Status FullName(const CommandContext& context, const char* flag, const std::string& given,
                      Resolver resolve, std::string* field) {
  const std::string text = given.empty() ? *field : given;
  if (text.empty()) return absl::OkStatus();
  DW_ASSIGN_OR_RETURN(*field, resolve(context, absl::StrCat("--", flag), text));
  return absl::OkStatus();
}

absl::Status BadPattern(const char* flag, const std::string& key, const std::string& value,
                        const char* want) {
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " of ", JsonQuote(key), " is ", JsonQuote(value), ", want ", want));
}

}  // namespace

void TrainFlags::Declare(Arguments& arguments) {
  arguments.Section("What is trained");
  arguments.Flag("base_model", &base_model_, "base model, READY").ValueName("MODEL");
  arguments.Flag("dataset", &dataset_, "training data").ValueName("DATASET");
  arguments.Flag("validation_dataset", &validation_dataset_, "held-out data for eval_loss")
      .ValueName("DATASET");
  arguments.Flag("adapter", &adapter_, "adapter that gets the new version (default: the job's id)")
      .ValueName("ADAPTER");
  DeclareLora(arguments);
  DeclareArguments(arguments);
  arguments.Section("Text and numbers");
  text_.Declare(arguments);
  arguments
      .Flag("compute_type", &compute_type_,
            "type of matrix products (default: the base's); fp8: over a base in bf16, on GPUs")
      .ValueName("TYPE")
      .Choices(EnumChoices<v1::NumberType>());
  arguments.Flag("micro_batch_tokens", &micro_batch_tokens_,
                 "tokens packed into one pass (default 2048, or max_length)");
}

void TrainFlags::DeclareLora(Arguments& arguments) {
  arguments.Section("LoRA (names of PEFT)");
  arguments.Flag("rank", &rank_, "rank of A and B, 1..1024 (default 8)").Alias("r");
  arguments.Flag("lora_alpha", &lora_alpha_, "scale is lora_alpha / rank (default 8)");
  arguments.Flag("lora_dropout", &lora_dropout_, "in [0, 1) (default 0)");
  arguments.Flag("target_modules", &target_modules_,
                 "last parts of module names, or all-linear (default all-linear)");
  arguments.Flag("rank_pattern", &rank_pattern_, "rank of single modules")
      .ValueName("MODULE=RANK,...");
  arguments.Flag("alpha_pattern", &alpha_pattern_, "lora_alpha of single modules")
      .ValueName("MODULE=ALPHA,...");
  arguments.Flag("use_rslora", &use_rslora_, "scale is lora_alpha / sqrt(rank)");
}

void TrainFlags::DeclareArguments(Arguments& arguments) {
  arguments.Section("Training (names of Hugging Face's TrainingArguments)");
  arguments.Flag("learning_rate", &learning_rate_, "peak learning rate (default 2e-4)");
  arguments.Flag("num_train_epochs", &num_train_epochs_, "passes over the data (default 3)");
  arguments.Flag("max_steps", &max_steps_, "optimiser steps; 0: by num_train_epochs (default 0)");
  arguments.Flag("per_device_train_batch_size", &per_device_train_batch_size_,
                 "examples of one pass (default 8)");
  arguments.Flag("gradient_accumulation_steps", &gradient_accumulation_steps_,
                 "passes of one step (default 1)");
  arguments.Flag("lr_scheduler_type", &lr_scheduler_type_, "(default linear)")
      .ValueName("TYPE")
      .Choices(EnumChoices<v1::TrainingArguments::LrSchedulerType>());
  arguments.Flag("warmup_ratio", &warmup_ratio_, "share of all steps (default 0)");
  arguments.Flag("warmup_steps", &warmup_steps_, "instead of warmup_ratio (default 0)");
  arguments.Flag("weight_decay", &weight_decay_, "(default 0)");
  arguments.Flag("adam_beta1", &adam_beta1_, "(default 0.9)");
  arguments.Flag("adam_beta2", &adam_beta2_, "(default 0.999)");
  arguments.Flag("adam_epsilon", &adam_epsilon_, "(default 1e-8)");
  arguments.Flag("max_grad_norm", &max_grad_norm_, "gradient clipping; 0: none (default 1)");
  arguments.Flag("seed", &seed_, "order of the data, initial A, dropout (default 42)");
  arguments.Flag("eval_steps", &eval_steps_,
                 "steps between evaluations; 0: before and after only (default 0)");
  arguments.Flag("save_steps", &save_steps_,
                 "steps between checkpoints besides the platform's own (default 0: none)");
  arguments.Flag("save_total_limit", &save_total_limit_, "checkpoints kept, 2..100 (default 2)");
}

absl::Status TrainFlags::Apply(const CommandContext& context, v1::TrainSpec& spec) const {
  DW_RETURN_IF_ERROR(ApplyNames(context, spec));
  DW_RETURN_IF_ERROR(ApplyLora(*spec.mutable_lora()));
  DW_RETURN_IF_ERROR(ApplyArguments(*spec.mutable_arguments()));
  DW_RETURN_IF_ERROR(text_.Apply(*spec.mutable_text()));
  if (compute_type_) spec.set_compute_type(EnumOf<v1::NumberType>(*compute_type_));
  return GiveInt32("micro_batch_tokens", micro_batch_tokens_,
                   [&](int32_t value) { spec.set_micro_batch_tokens(value); });
}

absl::Status TrainFlags::ApplyNames(const CommandContext& context, v1::TrainSpec& spec) const {
  DW_RETURN_IF_ERROR(
      FullName(context, "base_model", base_model_, BaseModelName, spec.mutable_base_model()));
  DW_RETURN_IF_ERROR(FullName(context, "dataset", dataset_, DatasetName, spec.mutable_dataset()));
  DW_RETURN_IF_ERROR(FullName(context, "validation_dataset", validation_dataset_, DatasetName,
                              spec.mutable_validation_dataset()));
  DW_RETURN_IF_ERROR(FullName(context, "adapter", adapter_, AdapterName, spec.mutable_adapter()));
  if (spec.base_model().empty() || spec.dataset().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec.base_model().empty() ? "--base_model" : "--dataset",
                     " is absent, want both --base_model and --dataset, or --file"));
  }
  return absl::OkStatus();
}

absl::Status TrainFlags::ApplyLora(v1::LoraConfig& lora) const {
  DW_RETURN_IF_ERROR(GiveInt32("rank", rank_, [&](int32_t value) { lora.set_rank(value); }));
  Give(lora_alpha_, [&](double value) { lora.set_lora_alpha(value); });
  Give(lora_dropout_, [&](double value) { lora.set_lora_dropout(value); });
  if (!target_modules_.empty()) {
    lora.mutable_target_modules()->Assign(target_modules_.begin(), target_modules_.end());
  }
  for (const auto& [module, text] : rank_pattern_) {
    int32_t rank = 0;
    if (!absl::SimpleAtoi(text, &rank)) {
      return BadPattern("--rank_pattern", module, text, "an integer");
    }
    (*lora.mutable_rank_pattern())[module] = rank;
  }
  for (const auto& [module, text] : alpha_pattern_) {
    double alpha = 0;
    if (!absl::SimpleAtod(text, &alpha)) {
      return BadPattern("--alpha_pattern", module, text, "a number");
    }
    (*lora.mutable_alpha_pattern())[module] = alpha;
  }
  Give(use_rslora_, [&](bool value) { lora.set_use_rslora(value); });
  return absl::OkStatus();
}

absl::Status TrainFlags::ApplyArguments(v1::TrainingArguments& arguments) const {
  Give(learning_rate_, [&](double value) { arguments.set_learning_rate(value); });
  Give(num_train_epochs_, [&](double value) { arguments.set_num_train_epochs(value); });
  Give(max_steps_, [&](int64_t value) { arguments.set_max_steps(value); });
  DW_RETURN_IF_ERROR(
      GiveInt32("per_device_train_batch_size", per_device_train_batch_size_,
                [&](int32_t value) { arguments.set_per_device_train_batch_size(value); }));
  DW_RETURN_IF_ERROR(
      GiveInt32("gradient_accumulation_steps", gradient_accumulation_steps_,
                [&](int32_t value) { arguments.set_gradient_accumulation_steps(value); }));
  if (lr_scheduler_type_) {
    arguments.set_lr_scheduler_type(
        EnumOf<v1::TrainingArguments::LrSchedulerType>(*lr_scheduler_type_));
  }
  Give(warmup_ratio_, [&](double value) { arguments.set_warmup_ratio(value); });
  Give(warmup_steps_, [&](int64_t value) { arguments.set_warmup_steps(value); });
  Give(weight_decay_, [&](double value) { arguments.set_weight_decay(value); });
  Give(adam_beta1_, [&](double value) { arguments.set_adam_beta1(value); });
  Give(adam_beta2_, [&](double value) { arguments.set_adam_beta2(value); });
  Give(adam_epsilon_, [&](double value) { arguments.set_adam_epsilon(value); });
  Give(max_grad_norm_, [&](double value) { arguments.set_max_grad_norm(value); });
  Give(seed_, [&](int64_t value) { arguments.set_seed(value); });
  Give(eval_steps_, [&](int64_t value) { arguments.set_eval_steps(value); });
  Give(save_steps_, [&](int64_t value) { arguments.set_save_steps(value); });
  return GiveInt32("save_total_limit", save_total_limit_,
                   [&](int32_t value) { arguments.set_save_total_limit(value); });
}

absl::Status ParseJobJson(absl::string_view json, const std::string& subject, v1::Job& job) {
  DW_ASSIGN_OR_RETURN(Json document, ParseJson(json, subject));
  if (document.is_object() && JsonHas(document, "train") && document["train"].is_object() &&
      JsonHas(document["train"], "lora") && document["train"]["lora"].is_object()) {
    Json& lora = document["train"]["lora"];
    if (JsonHas(lora, "r")) {
      if (JsonHas(lora, "rank")) {
        return absl::InvalidArgumentError(
            absl::StrCat(subject, ": train.lora has r and rank, want one of them"));
      }
      lora["rank"] = lora["r"];
      lora.erase("r");
    }
  }
  DW_RETURN_IF_ERROR(ParseMessageJson(JsonText(document), subject, job));
  if (!job.has_train()) {
    return absl::InvalidArgumentError(absl::StrCat(
        subject, ": no train, want {\"train\": {\"base_model\": ..., \"dataset\": ...}}"));
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::services

#include "scheduler/job_spec.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "scheduler/proto_time.h"
#include "scheduler/resource_name.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::scheduler {
namespace {

constexpr int kLabelsMax = 64;
constexpr int kWorkerLabelsMax = 16;
constexpr int kGangMax = 64;
constexpr size_t kTextBytesMax = 256;
constexpr int kTargetModulesMax = 256;
constexpr int kPatternsMax = 1024;
constexpr int32_t kRankMax = 1024;
constexpr int32_t kTokensMax = 131072;
constexpr double kAlphaMax = 65536;
constexpr double kHuge = 1e300;

template <typename T>
absl::Status OutOfRange(absl::string_view field, T got, absl::string_view want) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", got, ", want ", want));
}

absl::Status CheckInt(absl::string_view field, int64_t got, int64_t min, int64_t max) {
  if (got >= min && got <= max) return absl::OkStatus();
  return OutOfRange(field, got, absl::StrCat(min, "..", max));
}

enum class Ends { kClosed, kOpenMin, kOpenMax };

// NaN is outside every range.
absl::Status CheckReal(absl::string_view field, double got, double min, double max,
                       Ends ends = Ends::kClosed) {
  const bool above = ends == Ends::kOpenMin ? got > min : got >= min;
  const bool below = ends == Ends::kOpenMax ? got < max : got <= max;
  if (above && below) return absl::OkStatus();
  return OutOfRange(field, got,
                    absl::StrCat(ends == Ends::kOpenMin ? "> " : ">= ", min, " and ",
                                 ends == Ends::kOpenMax ? "< " : "<= ", max));
}

absl::Status CheckText(absl::string_view field, absl::string_view got) {
  if (got.size() <= kTextBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " has ", got.size(), " bytes, want at most ", kTextBytesMax));
}

absl::Status CheckCount(absl::string_view field, int64_t got, int64_t max) {
  if (got <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " has ", got, " entries, want at most ", max));
}

// `name` must be of `tenant` and `collection`.
absl::Status CheckReference(absl::string_view field, absl::string_view name,
                            absl::string_view tenant, absl::string_view collection) {
  DW_ASSIGN_OR_RETURN(const ResourceName parsed, ParseResourceName(field, name, collection));
  if (parsed.tenant == tenant) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is \"", name, "\", want a resource of tenants/", tenant));
}

absl::Status CheckLabels(absl::string_view field,
                         const google::protobuf::Map<std::string, std::string>& labels,
                         int count_max) {
  DW_RETURN_IF_ERROR(CheckCount(field, labels.size(), count_max));
  for (const auto& [key, value] : labels) {
    if (key.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(field, " has an empty key, want 1..63 bytes"));
    }
    const std::string subject = absl::StrCat(field, "[\"", absl::CHexEscape(key), "\"]");
    DW_RETURN_IF_ERROR(CheckText(absl::StrCat("the key of ", subject), key));
    DW_RETURN_IF_ERROR(CheckText(subject, value));
  }
  return absl::OkStatus();
}

absl::Status CompleteLora(v1::LoraConfig* lora) {
  const std::string field = "job.train.lora.";
  if (!lora->has_rank()) lora->set_rank(8);
  if (!lora->has_lora_alpha()) lora->set_lora_alpha(8);
  if (!lora->has_lora_dropout()) lora->set_lora_dropout(0);
  if (lora->target_modules().empty()) lora->add_target_modules("all-linear");

  DW_RETURN_IF_ERROR(CheckInt(field + "rank", lora->rank(), 1, kRankMax));
  DW_RETURN_IF_ERROR(
      CheckReal(field + "lora_alpha", lora->lora_alpha(), 0, kAlphaMax, Ends::kOpenMin));
  DW_RETURN_IF_ERROR(CheckReal(field + "lora_dropout", lora->lora_dropout(), 0, 1, Ends::kOpenMax));
  DW_RETURN_IF_ERROR(
      CheckCount(field + "target_modules", lora->target_modules_size(), kTargetModulesMax));
  for (const std::string& module : lora->target_modules()) {
    if (module.empty()) {
      return absl::InvalidArgumentError(
          field + "target_modules has an empty name, want module names or \"all-linear\"");
    }
    DW_RETURN_IF_ERROR(CheckText(field + "target_modules", module));
  }
  DW_RETURN_IF_ERROR(CheckCount(field + "rank_pattern", lora->rank_pattern_size(), kPatternsMax));
  for (const auto& [module, rank] : lora->rank_pattern()) {
    DW_RETURN_IF_ERROR(CheckText(field + "rank_pattern", module));
    DW_RETURN_IF_ERROR(
        CheckInt(absl::StrCat(field, "rank_pattern[\"", absl::CHexEscape(module), "\"]"), rank, 1,
                 kRankMax));
  }
  DW_RETURN_IF_ERROR(CheckCount(field + "alpha_pattern", lora->alpha_pattern_size(), kPatternsMax));
  for (const auto& [module, alpha] : lora->alpha_pattern()) {
    DW_RETURN_IF_ERROR(CheckText(field + "alpha_pattern", module));
    DW_RETURN_IF_ERROR(
        CheckReal(absl::StrCat(field, "alpha_pattern[\"", absl::CHexEscape(module), "\"]"), alpha,
                  0, kAlphaMax, Ends::kOpenMin));
  }
  return absl::OkStatus();
}

void FillArguments(v1::TrainingArguments* a) {
  if (!a->has_learning_rate()) a->set_learning_rate(2e-4);
  if (!a->has_num_train_epochs()) a->set_num_train_epochs(3);
  if (!a->has_per_device_train_batch_size()) a->set_per_device_train_batch_size(8);
  if (!a->has_gradient_accumulation_steps()) a->set_gradient_accumulation_steps(1);
  if (a->lr_scheduler_type() == v1::TrainingArguments::LR_SCHEDULER_TYPE_UNSPECIFIED) {
    a->set_lr_scheduler_type(v1::TrainingArguments::LINEAR);
  }
  if (!a->has_adam_beta1()) a->set_adam_beta1(0.9);
  if (!a->has_adam_beta2()) a->set_adam_beta2(0.999);
  if (!a->has_adam_epsilon()) a->set_adam_epsilon(1e-8);
  if (!a->has_max_grad_norm()) a->set_max_grad_norm(1);
  if (!a->has_seed()) a->set_seed(42);
  if (!a->has_save_total_limit()) a->set_save_total_limit(2);
}

absl::Status CompleteArguments(v1::TrainingArguments* a) {
  const std::string field = "job.train.arguments.";
  constexpr int64_t kStepsMax = 100'000'000;
  FillArguments(a);
  DW_RETURN_IF_ERROR(CheckReal(field + "learning_rate", a->learning_rate(), 0, 10, Ends::kOpenMin));
  DW_RETURN_IF_ERROR(
      CheckReal(field + "num_train_epochs", a->num_train_epochs(), 0, 10000, Ends::kOpenMin));
  DW_RETURN_IF_ERROR(CheckInt(field + "max_steps", a->max_steps(), 0, kStepsMax));
  DW_RETURN_IF_ERROR(
      CheckInt(field + "per_device_train_batch_size", a->per_device_train_batch_size(), 1, 65536));
  DW_RETURN_IF_ERROR(
      CheckInt(field + "gradient_accumulation_steps", a->gradient_accumulation_steps(), 1, 65536));
  DW_RETURN_IF_ERROR(CheckInt(field + "lr_scheduler_type", a->lr_scheduler_type(),
                              v1::TrainingArguments::LINEAR,
                              v1::TrainingArguments::LrSchedulerType_MAX));
  DW_RETURN_IF_ERROR(CheckReal(field + "warmup_ratio", a->warmup_ratio(), 0, 1));
  DW_RETURN_IF_ERROR(CheckInt(field + "warmup_steps", a->warmup_steps(), 0, kStepsMax));
  DW_RETURN_IF_ERROR(CheckReal(field + "weight_decay", a->weight_decay(), 0, 1));
  DW_RETURN_IF_ERROR(CheckReal(field + "adam_beta1", a->adam_beta1(), 0, 1, Ends::kOpenMax));
  DW_RETURN_IF_ERROR(CheckReal(field + "adam_beta2", a->adam_beta2(), 0, 1, Ends::kOpenMax));
  DW_RETURN_IF_ERROR(
      CheckReal(field + "adam_epsilon", a->adam_epsilon(), 0, kHuge, Ends::kOpenMin));
  DW_RETURN_IF_ERROR(CheckReal(field + "max_grad_norm", a->max_grad_norm(), 0, kHuge));
  DW_RETURN_IF_ERROR(CheckInt(field + "eval_steps", a->eval_steps(), 0, kStepsMax));
  DW_RETURN_IF_ERROR(CheckInt(field + "save_steps", a->save_steps(), 0, kStepsMax));
  return CheckInt(field + "save_total_limit", a->save_total_limit(), 2, 100);
}

// max_length and micro_batch_tokens have defaults of the base: only what was given is checked.
absl::Status CompleteText(v1::TrainSpec* train) {
  v1::TextSettings& text = *train->mutable_text();
  if (text.truncation() == v1::TextSettings::TRUNCATION_UNSPECIFIED) {
    text.set_truncation(v1::TextSettings::ERROR);
  }
  if (text.train_on() == v1::TextSettings::TRAIN_ON_UNSPECIFIED) {
    text.set_train_on(v1::TextSettings::ASSISTANT_ALL);
  }
  DW_RETURN_IF_ERROR(CheckInt("job.train.text.truncation", text.truncation(),
                              v1::TextSettings::ERROR, v1::TextSettings::Truncation_MAX));
  DW_RETURN_IF_ERROR(CheckInt("job.train.text.train_on", text.train_on(),
                              v1::TextSettings::ASSISTANT_ALL, v1::TextSettings::TrainOn_MAX));
  DW_RETURN_IF_ERROR(
      CheckInt("job.train.compute_type", train->compute_type(), 0, v1::NumberType_MAX));
  if (text.has_max_length()) {
    DW_RETURN_IF_ERROR(CheckInt("job.train.text.max_length", text.max_length(), 2, kTokensMax));
  }
  if (!train->has_micro_batch_tokens()) return absl::OkStatus();
  return CheckInt("job.train.micro_batch_tokens", train->micro_batch_tokens(),
                  text.has_max_length() ? text.max_length() : 2, kTokensMax);
}

absl::Status CompleteTrain(absl::string_view tenant, absl::string_view job_id,
                           v1::TrainSpec* train) {
  DW_RETURN_IF_ERROR(
      CheckReference("job.train.base_model", train->base_model(), tenant, "baseModels"));
  DW_RETURN_IF_ERROR(CheckReference("job.train.dataset", train->dataset(), tenant, "datasets"));
  if (!train->validation_dataset().empty()) {
    DW_RETURN_IF_ERROR(CheckReference("job.train.validation_dataset", train->validation_dataset(),
                                      tenant, "datasets"));
  }
  if (train->adapter().empty()) {
    train->set_adapter(absl::StrCat("tenants/", tenant, "/adapters/", job_id));
  }
  DW_RETURN_IF_ERROR(CheckReference("job.train.adapter", train->adapter(), tenant, "adapters"));
  DW_RETURN_IF_ERROR(CompleteLora(train->mutable_lora()));
  DW_RETURN_IF_ERROR(CompleteArguments(train->mutable_arguments()));
  return CompleteText(train);
}

absl::Status CompleteScheduling(v1::Job* job) {
  if (job->priority_class() == v1::PRIORITY_CLASS_UNSPECIFIED) job->set_priority_class(v1::NORMAL);
  DW_RETURN_IF_ERROR(CheckInt("job.priority_class", job->priority_class(), v1::LOW, v1::HIGH));

  v1::Placement& placement = *job->mutable_placement();
  DW_RETURN_IF_ERROR(
      CheckLabels("job.placement.worker_labels", placement.worker_labels(), kWorkerLabelsMax));
  if (!placement.device_kind().empty() && placement.device_kind() != "cpu" &&
      placement.device_kind() != "cuda") {
    return absl::InvalidArgumentError(absl::StrCat(
        "job.placement.device_kind is \"", absl::CHexEscape(placement.device_kind().substr(0, 100)),
        "\", want \"cpu\", \"cuda\" or nothing"));
  }
  if (job->train().compute_type() == v1::FP8) {
    if (placement.device_kind().empty()) placement.set_device_kind("cuda");
    if (placement.device_kind() != "cuda") {
      return absl::InvalidArgumentError(
          absl::StrCat("job.train.compute_type is FP8 and job.placement.device_kind \"",
                       placement.device_kind(), "\", want \"cuda\": only GPUs multiply in FP8"));
    }
  }
  if (placement.resume_policy() == v1::Placement::RESUME_POLICY_UNSPECIFIED) {
    placement.set_resume_policy(v1::Placement::ANY);
  }
  DW_RETURN_IF_ERROR(CheckInt("job.placement.resume_policy", placement.resume_policy(),
                              v1::Placement::ANY, v1::Placement::ResumePolicy_MAX));

  DW_RETURN_IF_ERROR(CheckInt("job.placement.memory_bytes_min", placement.memory_bytes_min(), 0,
                              std::numeric_limits<int64_t>::max()));
  DW_RETURN_IF_ERROR(CheckInt("job.placement.gang_size", placement.gang_size(), 0, kGangMax));
  const bool is_gang = placement.gang_size() > 1;
  if (is_gang && placement.cohort() != v1::Placement::COHORT_UNSPECIFIED &&
      placement.cohort() != v1::Placement::COHORT_ALONE) {
    return absl::InvalidArgumentError(absl::StrCat(
        "job.placement.cohort is ", v1::Placement::Cohort_Name(placement.cohort()),
        ", want COHORT_ALONE: a gang of ", placement.gang_size(), " has its workers to itself"));
  }
  if (placement.cohort() == v1::Placement::COHORT_UNSPECIFIED) {
    placement.set_cohort(is_gang ? v1::Placement::COHORT_ALONE : v1::Placement::COHORT_ANY);
  }
  DW_RETURN_IF_ERROR(CheckInt("job.placement.cohort", placement.cohort(), v1::Placement::COHORT_ANY,
                              v1::Placement::Cohort_MAX));
  DW_RETURN_IF_ERROR(CheckTiming("job.timing", job->timing()));

  v1::RetryPolicy& retry = *job->mutable_retry_policy();
  if (!retry.has_max_retries()) retry.set_max_retries(5);
  return CheckInt("job.retry_policy.max_retries", retry.max_retries(), -1, 1000);
}

}  // namespace

void ClearOutputOnly(v1::Job* job) {
  job->clear_name();
  job->clear_status();
  job->clear_create_time();
  job->clear_update_time();
  job->clear_start_time();
  job->clear_end_time();
}

absl::Status CheckTiming(absl::string_view field, const v1::Timing& timing) {
  // As the types themselves are bounded: years 1 to 9999.
  constexpr int64_t kFirst = -62'135'596'800, kLast = 253'402'300'799;
  constexpr int64_t kLongest = 10'000LL * 365 * 86'400;
  if (timing.has_start_after()) {
    DW_RETURN_IF_ERROR(CheckInt(absl::StrCat(field, ".start_after.seconds"),
                                timing.start_after().seconds(), kFirst, kLast));
  }
  if (timing.has_deadline()) {
    DW_RETURN_IF_ERROR(CheckInt(absl::StrCat(field, ".deadline.seconds"),
                                timing.deadline().seconds(), kFirst, kLast));
    if (timing.has_start_after() &&
        FromProto(timing.deadline()) <= FromProto(timing.start_after())) {
      return absl::InvalidArgumentError(absl::StrCat(
          field, ".deadline is ", absl::FormatTime(FromProto(timing.deadline())),
          ", want later than start_after, ", absl::FormatTime(FromProto(timing.start_after()))));
    }
  }
  if (!timing.has_time_limit()) return absl::OkStatus();
  DW_RETURN_IF_ERROR(CheckInt(absl::StrCat(field, ".time_limit.seconds"),
                              timing.time_limit().seconds(), 0, kLongest));
  if (FromProto(timing.time_limit()) > absl::ZeroDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ".time_limit is ", absl::FormatDuration(FromProto(timing.time_limit())),
                   ", want more than 0"));
}

absl::StatusOr<v1::Job> CompleteJob(const v1::Job& asked, absl::string_view tenant,
                                    absl::string_view job_id) {
  v1::Job job = asked;
  ClearOutputOnly(&job);
  job.set_name(absl::StrCat("tenants/", tenant, "/jobs/", job_id));
  DW_RETURN_IF_ERROR(CheckText("job.display_name", job.display_name()));
  DW_RETURN_IF_ERROR(CheckLabels("job.labels", job.labels(), kLabelsMax));
  if (!job.parent_job().empty()) {
    DW_RETURN_IF_ERROR(CheckReference("job.parent_job", job.parent_job(), tenant, "jobs"));
  }
  DW_RETURN_IF_ERROR(CompleteScheduling(&job));
  switch (job.task_case()) {
    case v1::Job::kTrain:
      DW_RETURN_IF_ERROR(CompleteTrain(tenant, job_id, job.mutable_train()));
      return job;
    case v1::Job::TASK_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("job.task is not set, want train");
}

}  // namespace deltaworks::scheduler

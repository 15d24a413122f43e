#include "services/store/training_check.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/base/resource_names.h"
#include "services/base/spec_conversion.h"
#include "services/store/memory_bound.h"
#include "trainer/base/status_macros.h"
#include "trainer/base/utf8_prefix.h"
#include "trainer/data/record.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/llama.h"
#include "trainer/train/training_config.h"

namespace deltaworks::services {
namespace {

constexpr int32_t kMicroBatchDefault = 2048;
constexpr int32_t kMicroBatchMax = 131'072;

void Fail(v1::ValidateTrainingResponse& response, absl::string_view code, absl::string_view field,
          absl::string_view message) {
  v1::Failure& failure = *response.mutable_failure();
  failure.set_code(std::string(code));
  failure.set_field(std::string(field));
  failure.set_message(std::string(Utf8Prefix(message, 2000)));
  failure.set_fault(v1::Failure::USER);
}

// The field that a message of the trainer begins with ("rank is 0, want ..."), under `prefix`.
std::string FieldOf(absl::string_view message, absl::string_view prefix) {
  return absl::StrCat(prefix, ".", message.substr(0, message.find_first_of(" [")));
}

// What a name in the spec lacks to be one of this tenant's.
absl::Status CheckName(const std::string& tenant, absl::string_view field, const std::string& name,
                       absl::string_view pattern) {
  DW_ASSIGN_OR_RETURN(const std::vector<std::string> ids, ParseName(field, name, pattern));
  if (ids[0] == tenant) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", name, ", want one of tenants/", tenant));
}

// What people should know of a dataset that is good.
void AddWarnings(const std::string& field, const v1::DatasetReport& report,
                 const v1::TextSettings& text, v1::ValidateTrainingResponse& response) {
  if (report.too_long_count() == 0) return;
  const char* what = text.truncation() == v1::TextSettings::SKIP ? "skipped" : "cut";
  response.add_warnings(absl::StrCat(field, ": ", report.too_long_count(), " of ",
                                     report.example_count(), " examples were ", what,
                                     ": longer than ", text.max_length(), " tokens"));
}

// The mean over the data, rounded up: a step takes what there is if it wants more.
int64_t StepTokens(int64_t examples_per_step, const v1::DatasetReport& report) {
  const int64_t examples = report.train_examples(), tokens = report.train_tokens();
  if (examples_per_step >= examples) return tokens;
  // No product is larger than the data, or than its examples squared.
  const int64_t rest = examples_per_step * (tokens % examples);
  return examples_per_step * (tokens / examples) + (rest + examples - 1) / examples;
}

}  // namespace

absl::Status TrainingCheck::FindBase(Case& c) {
  const std::string& name = c.response.spec().base_model();
  absl::Status status = CheckName(c.tenant, "train.base_model", name, kBaseModelPattern);
  if (status.ok()) {
    absl::StatusOr<v1::BaseModel> found = base_models_.Get(name);
    if (found.ok()) c.base_model = *std::move(found);
    status = found.status();
  }
  if (absl::IsNotFound(status) || absl::IsInvalidArgument(status)) {
    Fail(c.response, "INVALID_SPEC", "train.base_model", status.message());
    return absl::OkStatus();
  }
  DW_RETURN_IF_ERROR(status);
  if (c.base_model.state() == v1::BaseModel::IMPORTING) {
    return absl::UnavailableError(absl::StrCat(name, " is still imported; ask again"));
  }
  if (c.base_model.state() != v1::BaseModel::READY) {
    Fail(c.response, "BASE_MODEL_INVALID", "train.base_model",
         absl::StrCat(name, " is not usable: ", c.base_model.failure().message()));
  }
  return absl::OkStatus();
}

absl::Status TrainingCheck::FindDataset(Case& c, const std::string& name, const std::string& field,
                                        v1::Dataset& dataset) {
  absl::Status status = CheckName(c.tenant, field, name, kDatasetPattern);
  if (status.ok()) {
    absl::StatusOr<v1::Dataset> found = datasets_.Get(name);
    if (found.ok()) dataset = *std::move(found);
    status = found.status();
  }
  if (absl::IsNotFound(status) || absl::IsInvalidArgument(status)) {
    Fail(c.response, "INVALID_SPEC", field, status.message());
    return absl::OkStatus();
  }
  return status;
}

// The defaults that need the base, and the bounds that do.
void TrainingCheck::ResolveSettings(Case& c) {
  v1::TrainSpec& spec = *c.response.mutable_spec();
  v1::TextSettings& text = *spec.mutable_text();
  if (!text.has_max_length()) text.set_max_length(DefaultMaxLength(c.base_model));
  if (text.truncation() == v1::TextSettings::TRUNCATION_UNSPECIFIED) {
    text.set_truncation(v1::TextSettings::ERROR);
  }
  if (text.train_on() == v1::TextSettings::TRAIN_ON_UNSPECIFIED) {
    text.set_train_on(v1::TextSettings::ASSISTANT_ALL);
  }
  if (spec.compute_type() == v1::NUMBER_TYPE_UNSPECIFIED) {
    spec.set_compute_type(c.base_model.form());
  }
  if (!spec.has_micro_batch_tokens()) {
    spec.set_micro_batch_tokens(std::max(kMicroBatchDefault, text.max_length()));
  }
  if (absl::Status status = CheckTextSettings(text, c.base_model); !status.ok()) {
    return Fail(c.response, "INVALID_SPEC", FieldOf(status.message(), "train"), status.message());
  }
  if (spec.micro_batch_tokens() < text.max_length() || spec.micro_batch_tokens() > kMicroBatchMax) {
    return Fail(c.response, "INVALID_SPEC", "train.micro_batch_tokens",
                absl::StrCat("micro_batch_tokens is ", spec.micro_batch_tokens(), ", want ",
                             text.max_length(), " (text.max_length)..", kMicroBatchMax));
  }
  const bool fp8 = spec.compute_type() == v1::FP8 && c.base_model.form() == v1::BF16;
  if (spec.compute_type() != c.base_model.form() && !fp8) {
    Fail(c.response, "INVALID_SPEC", "train.compute_type",
         absl::StrCat("compute_type is ", v1::NumberType_Name(spec.compute_type()), ", want ",
                      v1::NumberType_Name(c.base_model.form()), ", the form of ",
                      c.base_model.name(), c.base_model.form() == v1::BF16 ? ", or FP8" : ""));
  }
}

absl::Status TrainingCheck::ReadData(Case& c, const v1::Dataset& dataset, const std::string& field,
                                     v1::DatasetReport& report) {
  DW_ASSIGN_OR_RETURN(report, texts_.Report({c.tenant, dataset.name(), dataset.blob_digest()},
                                            c.base_model, c.response.spec().text()));
  if (report.problem_count() > 0) {
    const trainer::RecordProblem first = {report.problems(0).line(), report.problems(0).message()};
    Fail(c.response, "DATASET_INVALID", field,
         absl::StrCat(dataset.name(), ": ", trainer::ProblemText(first, report.problem_count())));
  } else {
    AddWarnings(field, report, c.response.spec().text(), c.response);
  }
  return absl::OkStatus();
}

// Targets, steps, parameters, memory.
absl::Status TrainingCheck::Count(Case& c) {
  const v1::TrainSpec& spec = c.response.spec();
  const trainer::TrainingConfig config = trainer::WholeBatch(ToTrainingConfig(spec), c.gang_size);
  if (absl::Status status = trainer::CheckTrainingConfig(config); !status.ok()) {
    Fail(c.response, "INVALID_SPEC", FieldOf(status.message(), "train.arguments"),
         status.message());
    return absl::OkStatus();
  }
  DW_ASSIGN_OR_RETURN(const std::shared_ptr<const TextModel> model, text_models_.Get(c.base_model));
  const std::vector<trainer::LinearModule> modules = trainer::LlamaModules(model->config);
  const auto targets = trainer::ResolveTargets(config.lora, modules);
  if (!targets.ok()) {
    Fail(c.response, "INVALID_SPEC", FieldOf(targets.status().message(), "train.lora"),
         targets.status().message());
    return absl::OkStatus();
  }
  const int64_t total_steps = trainer::TotalSteps(config, c.report.train_examples());
  if (config.warmup_steps > total_steps) {
    Fail(c.response, "INVALID_SPEC", "train.arguments.warmup_steps",
         absl::StrCat("warmup_steps is ", config.warmup_steps, ", want 0..", total_steps,
                      ", the steps of this job"));
    return absl::OkStatus();
  }
  v1::TrainFacts& facts = *c.response.mutable_facts();
  facts.set_total_steps(total_steps);
  facts.set_trainable_parameters(trainer::TrainableParameters(*targets));
  facts.set_total_parameters(c.base_model.parameter_count());
  facts.set_step_tokens(StepTokens(config.examples_per_step(), c.report));
  JobSize size;
  size.base_bytes = c.base_model.size_bytes();
  size.compute_bytes = spec.compute_type() == v1::F32 ? 4 : 2;
  size.micro_batch_tokens = spec.micro_batch_tokens();
  size.data_examples = c.report.train_examples() + c.validation_report.train_examples();
  size.data_tokens = c.report.train_tokens() + c.validation_report.train_tokens();
  *facts.mutable_memory() = MemoryNeedOf(model->config, *targets, size);
  facts.set_memory_bytes_max(MemoryBound({facts.memory()}));
  return absl::OkStatus();
}

// The checks in turn; stops at the first failure.
absl::Status TrainingCheck::Fill(Case& c) {
  const v1::TrainSpec& spec = c.response.spec();
  DW_RETURN_IF_ERROR(FindBase(c));
  if (c.failed()) return absl::OkStatus();
  DW_RETURN_IF_ERROR(FindDataset(c, spec.dataset(), "train.dataset", c.dataset));
  const bool validates = !spec.validation_dataset().empty();
  if (!c.failed() && validates) {
    DW_RETURN_IF_ERROR(
        FindDataset(c, spec.validation_dataset(), "train.validation_dataset", c.validation));
    if (!c.failed() && c.validation.format() != c.dataset.format()) {
      Fail(c.response, "INVALID_SPEC", "train.validation_dataset",
           absl::StrCat("validation_dataset has format ",
                        v1::Dataset::Format_Name(c.validation.format()), ", want ",
                        v1::Dataset::Format_Name(c.dataset.format()), ", that of dataset"));
    }
  }
  if (!c.failed()) ResolveSettings(c);
  if (!c.failed()) DW_RETURN_IF_ERROR(ReadData(c, c.dataset, "train.dataset", c.report));
  if (!c.failed() && validates) {
    DW_RETURN_IF_ERROR(ReadData(c, c.validation, "train.validation_dataset", c.validation_report));
  }
  return c.failed() ? absl::OkStatus() : Count(c);
}

absl::StatusOr<v1::ValidateTrainingResponse> TrainingCheck::Validate(
    const std::string& tenant, const v1::ValidateTrainingRequest& request) {
  Case c;
  c.tenant = tenant;
  c.gang_size = std::max(1, request.gang_size());
  *c.response.mutable_spec() = request.spec();
  const absl::Status status = Fill(c);
  if (absl::IsDataLoss(status) || absl::IsNotFound(status)) {
    // Pinned bytes that are damaged or gone: asking again will not bring them back.
    Fail(c.response, "BLOB_CORRUPT", "", status.message());
    c.response.mutable_failure()->set_fault(v1::Failure::PLATFORM);
  } else if (absl::IsInvalidArgument(status)) {
    Fail(c.response, "BASE_MODEL_INVALID", "train.base_model", status.message());
  } else if (!status.ok() && !absl::IsResourceExhausted(status)) {
    return absl::UnavailableError(status.message());
  } else if (!status.ok()) {
    return status;
  }
  if (c.failed()) {
    c.response.clear_facts();
    c.response.clear_spec();
    c.response.clear_warnings();
    return c.response;
  }
  v1::TrainFacts& facts = *c.response.mutable_facts();
  facts.set_base_source_digest(c.base_model.source_digest());
  facts.set_base_manifest_digest(c.base_model.manifest_digest());
  facts.set_base_form(c.base_model.form());
  facts.set_dataset_manifest_digest(c.dataset.manifest_digest());
  facts.set_validation_manifest_digest(c.validation.manifest_digest());
  facts.set_train_examples(c.report.train_examples());
  facts.set_validation_examples(c.validation_report.train_examples());
  facts.set_train_tokens(c.report.train_tokens());
  facts.set_label_tokens(c.report.label_tokens());
  return c.response;
}

}  // namespace deltaworks::services

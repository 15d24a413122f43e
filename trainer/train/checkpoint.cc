// A checkpoint is one safetensors file:
//
//   "parameters/" + name, "m/" + name, "v/" + name   F32, for each of the adapter's tensors
//   metadata:
//     format_version   "1"
//     config           CanonicalText of the TrainingConfig
//     base_digest, dataset_digest, numerics_class      RunIdentity
//     step, tokens     decimal
//     pending          "", or the metrics of `step` that wait for an evaluation:
//                      "loss learning_rate grad_norm tokens" in hex floats
//
// Without times or names of hosts: equal states, equal bytes.

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"
#include "trainer/formats/safetensors.h"
#include "trainer/train/training_run.h"

namespace deltaworks::trainer {
namespace {

constexpr char kSubject[] = "checkpoint";
constexpr char kFormatVersion[] = "1";

void AddTensors(const std::string& prefix, absl::Span<const AdapterTensor> tensors,
                const std::vector<float>& values, TensorMap* map) {
  for (const AdapterTensor& tensor : tensors) {
    (*map)[prefix + tensor.name] =
        ConstTensorView(values.data() + tensor.offset, DType::kF32, tensor.shape);
  }
}

absl::Status ReadTensors(const Safetensors& file, const std::string& prefix,
                         absl::Span<const AdapterTensor> tensors, std::vector<float>* values) {
  for (const AdapterTensor& tensor : tensors) {
    const ConstTensorView* found = file.Find(prefix + tensor.name);
    if (found == nullptr || found->dtype != DType::kF32 || found->shape != tensor.shape) {
      return absl::InvalidArgumentError(absl::StrCat(
          kSubject, ": ", prefix, tensor.name, " is ",
          found == nullptr ? std::string("absent")
                           : absl::StrCat(NameOf(found->dtype), " ", ShapeText(found->shape)),
          ", want F32 ", ShapeText(tensor.shape)));
    }
    const float* data = found->as<const float>();
    std::copy(data, data + tensor.elements(), values->begin() + tensor.offset);
  }
  return absl::OkStatus();
}

std::string PendingText(const StepMetrics& metrics) {
  return absl::StrFormat("%a %a %a %d", metrics.loss, metrics.learning_rate, metrics.grad_norm,
                         metrics.tokens);
}

bool ParsePending(const std::string& text, StepMetrics* metrics) {
  const std::vector<std::string> parts = absl::StrSplit(text, ' ');
  if (parts.size() != 4) return false;
  double* const numbers[] = {&metrics->loss, &metrics->learning_rate, &metrics->grad_norm};
  for (int i = 0; i < 3; ++i) {
    char* end = nullptr;
    *numbers[i] = std::strtod(parts[i].c_str(), &end);
    if (parts[i].empty() || *end != '\0') return false;
  }
  return absl::SimpleAtoi(parts[3], &metrics->tokens);
}

}  // namespace

std::string TrainingRun::SaveCheckpoint() const {
  CHECK(at_step_boundary());
  const std::vector<float> parameters = adapter_->ReadParameters(), m = adapter_->ReadM(),
                           v = adapter_->ReadV();
  TensorMap tensors;
  AddTensors("parameters/", adapter_->tensors(), parameters, &tensors);
  AddTensors("m/", adapter_->tensors(), m, &tensors);
  AddTensors("v/", adapter_->tensors(), v, &tensors);
  const bool waits = evaluating_ && step_ > 0;
  return SerializeSafetensors(tensors, {{"format_version", kFormatVersion},
                                        {"config", CanonicalText(config_)},
                                        {"base_digest", identity_.base_digest},
                                        {"dataset_digest", identity_.dataset_digest},
                                        {"numerics_class", identity_.numerics_class},
                                        {"step", absl::StrCat(step_)},
                                        {"tokens", absl::StrCat(tokens_)},
                                        {"pending", waits ? PendingText(pending_) : ""}});
}

absl::Status TrainingRun::RestoreCheckpoint(absl::string_view checkpoint) {
  DW_ASSIGN_OR_RETURN(const Safetensors file, ParseSafetensors(checkpoint, kSubject));
  DW_RETURN_IF_ERROR(file.CheckAligned(kSubject));
  const auto field = [&](const std::string& name) {
    const auto found = file.metadata.find(name);
    return found == file.metadata.end() ? std::string() : found->second;
  };
  const std::pair<const char*, std::string> wanted[] = {
      {"format_version", kFormatVersion},
      {"config", CanonicalText(config_)},
      {"base_digest", identity_.base_digest},
      {"dataset_digest", identity_.dataset_digest},
      {"numerics_class", identity_.numerics_class}};
  for (const auto& [name, want] : wanted) {
    if (field(name) != want) {
      return absl::FailedPreconditionError(
          absl::StrCat(kSubject, ": ", name, " is \"", field(name), "\", want \"", want, "\""));
    }
  }
  int64_t step = 0, tokens = 0;
  if (!absl::SimpleAtoi(field("step"), &step) || step < 0 || step > total_steps_) {
    return absl::InvalidArgumentError(
        absl::StrCat(kSubject, ": step is \"", field("step"), "\", want 0..", total_steps_));
  }
  if (!absl::SimpleAtoi(field("tokens"), &tokens) || tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(kSubject, ": tokens is \"", field("tokens"), "\", want a count"));
  }
  StepMetrics pending{.step = step};
  const bool waits = !field("pending").empty();
  if (waits && !ParsePending(field("pending"), &pending)) {
    return absl::InvalidArgumentError(
        absl::StrCat(kSubject, ": pending is \"", field("pending"), "\", want four numbers"));
  }
  std::vector<float> parameters(adapter_->elements()), m = parameters, v = parameters;
  DW_RETURN_IF_ERROR(ReadTensors(file, "parameters/", adapter_->tensors(), &parameters));
  DW_RETURN_IF_ERROR(ReadTensors(file, "m/", adapter_->tensors(), &m));
  DW_RETURN_IF_ERROR(ReadTensors(file, "v/", adapter_->tensors(), &v));

  adapter_->WriteParameters(parameters);
  adapter_->WriteMoments(m, v);
  model_.backend().Fill(adapter_->gradient(), 0);
  status_ = absl::OkStatus();
  step_ = step;
  tokens_ = tokens;
  pending_ = waits ? pending : StepMetrics();
  const bool before_first = step == 0 && !data_->validation.empty();
  if (waits || before_first) {
    BeginEvaluation();
  } else if (step_ < total_steps_) {
    BeginStep();
  } else {
    evaluating_ = false;
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::trainer

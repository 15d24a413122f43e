#include "services/worker/training_task.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/spec_conversion.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {

trainer::DType ComputeTypeOf(const v1::TrainSpec& spec, const v1::TrainFacts& facts) {
  const v1::NumberType type =
      spec.compute_type() == v1::NUMBER_TYPE_UNSPECIFIED ? facts.base_form() : spec.compute_type();
  return ToDType(type);
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

v1::Failure MakeFailure(const std::string& code, v1::Failure::Fault fault, std::string message) {
  v1::Failure failure;
  failure.set_code(code);
  failure.set_fault(fault);
  failure.set_message(std::move(message));
  return failure;
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

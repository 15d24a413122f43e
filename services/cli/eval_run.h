// RunEval: one dataset through a base and through an adapter: losses, answers, ROUGE, and how sure
// the difference is (trainer/metrics/bootstrap.h).

#ifndef DELTAWORKS_SERVICES_CLI_EVAL_RUN_H_
#define DELTAWORKS_SERVICES_CLI_EVAL_RUN_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/common.pb.h"
#include "proto/deltaworks/v1/inference_service.pb.h"
#include "services/cli/eval_data.h"
#include "services/clients/inference_client.h"
#include "services/clients/retry.h"
#include "trainer/metrics/bootstrap.h"

namespace deltaworks::services {

inline constexpr std::array<const char*, 3> kRougeNames = {"ROUGE-1", "ROUGE-2", "ROUGE-L"};

struct EvalOptions {
  std::string parent;
  // Each selects the same bytes however long it takes: a base model, and a version by its number.
  v1::ModelSelector base, adapter;
  v1::TextSettings text;
  // Without parent, model and input.
  v1::GenerateRequest generation;
  bool answers = true;
  // Calls under way at a time.
  int64_t concurrency = 16;
  // For calls that may succeed later (UNAVAILABLE, RESOURCE_EXHAUSTED); thread-safe.
  RetryPolicy retry;
  // Share done, in [0, 1]; from many threads, one at a time.
  std::function<void(double share)> progress;
};

// One model's results, by example.
struct EvalSide {
  std::vector<double> losses;                // Nats per label token.
  std::vector<std::string> answers;          // Empty where there is no question.
  std::array<std::vector<double>, 3> rouge;  // F-measures of the examples with an answer.
  double loss = 0;                           // Over all label tokens.
  int64_t label_tokens = 0;
};

struct EvalResult {
  EvalSide base, adapter;
  trainer::MeanDifference loss_gain;  // Of the examples' losses; negative is better.
  std::array<trainer::MeanDifference, 3> rouge_gain;  // Only with answers.
  int64_t answer_count = 0;
};

// Errors are those of the inference service.
absl::StatusOr<EvalResult> RunEval(InferenceClient& inference,
                                   const std::vector<EvalExample>& examples,
                                   const EvalOptions& options);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_EVAL_RUN_H_

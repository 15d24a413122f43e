// Runs a training of tests/golden/llama (train_NAME.json) and compares it with PEFT's.

#ifndef DELTAWORKS_TESTS_GOLDEN_TRAINING_GOLDEN_H_
#define DELTAWORKS_TESTS_GOLDEN_TRAINING_GOLDEN_H_

#include <memory>
#include <string>
#include <vector>

#include "trainer/base/json.h"
#include "trainer/model/llama.h"
#include "trainer/train/training_run.h"

namespace deltaworks::trainer {

struct GoldenTraining {
  // `data`: the JSON with "steps".
  GoldenTraining(const Json& training, const Json& data);

  TrainingConfig config;
  // Ordered so that the run's own shuffle gives the golden order back.
  std::shared_ptr<TrainingData> data;
  std::vector<double> losses, grad_norms, learning_rates;
};

// Trains to the end from `start`; returns the metrics of all steps and leaves the adapter in `run`.
std::vector<StepMetrics> RunToEnd(const Llama& model, const GoldenTraining& golden,
                                  const std::vector<float>& start,
                                  std::unique_ptr<TrainingRun>* run);

// The initial A of the golden trainings by the README's formula, B zero, in the order of `tensors`.
std::vector<float> GoldenStart(const Json& setting, const std::vector<LoraTarget>& targets);

struct AdapterDistance {
  double relative_norm = 0;    // |got - want| / |want - start|, Frobenius.
  double share_above_1e3 = 0;  // Elements that differ by more than 1e-3.
};
AdapterDistance Distance(const std::vector<float>& got, const std::vector<float>& want,
                         const std::vector<float>& start);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_GOLDEN_TRAINING_GOLDEN_H_

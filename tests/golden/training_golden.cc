#include "tests/golden/training_golden.h"

#include <cmath>

#include "glog/logging.h"
#include "tests/golden/golden_files.h"
#include "trainer/train/cohort.h"
#include "trainer/train/data_order.h"

namespace deltaworks::trainer {
namespace {

Example ToExample(const Json& json) {
  Example example{.ids = GoldenIds(json["ids"])};
  for (const int32_t label : GoldenIds(json["labels"])) example.is_label.push_back(label >= 0);
  return example;
}

// SplitMix64, as the README writes it.
uint64_t SplitMix64(uint64_t seed, uint64_t n) {
  uint64_t z = seed + (n + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace

GoldenTraining::GoldenTraining(const Json& training, const Json& data_json)
    : data(std::make_shared<TrainingData>()),
      losses(training["loss"]),
      grad_norms(training["grad_norm"]),
      learning_rates(training["learning_rate"]) {
  const Json& setting = training["setting"];
  const Json& steps = data_json["steps"];
  config.lora.rank = setting["rank"];
  config.lora.lora_alpha = setting["lora_alpha"];
  config.lora.use_rslora = setting["use_rslora"];
  config.lora.target_modules = setting["target_modules"].get<std::vector<std::string>>();
  config.learning_rate = setting["learning_rate"];
  config.adam_beta1 = setting["adam_beta1"];
  config.adam_beta2 = setting["adam_beta2"];
  config.adam_epsilon = setting["adam_epsilon"];
  config.weight_decay = setting["weight_decay"];
  config.warmup_steps = setting["warmup_steps"];
  config.max_grad_norm = setting["max_grad_norm"];
  const std::string scheduler = setting["lr_scheduler_type"];
  config.lr_scheduler_type = scheduler == "linear"   ? LrSchedulerType::kLinear
                             : scheduler == "cosine" ? LrSchedulerType::kCosine
                                                     : LrSchedulerType::kConstant;
  config.per_device_train_batch_size = static_cast<int64_t>(steps[0].size());
  config.num_train_epochs = 1;
  const int64_t count = static_cast<int64_t>(steps.size() * steps[0].size());
  const std::vector<int64_t> order = EpochOrder(config.seed, 0, count);
  data->train.resize(count);
  for (int64_t i = 0; i < count; ++i) {
    const size_t per_step = steps[0].size();
    data->train[order[i]] = ToExample(steps[i / per_step][i % per_step]);
  }
}

std::vector<StepMetrics> RunToEnd(const Llama& model, const GoldenTraining& golden,
                                  const std::vector<float>& start,
                                  std::unique_ptr<TrainingRun>* run) {
  auto created = TrainingRun::Create(model, golden.config, golden.data, {});
  CHECK(created.ok()) << created.status();
  *run = std::move(*created);
  CHECK((*run)->StartFrom(start).ok());
  Cohort cohort(model);
  std::vector<StepMetrics> metrics;
  while ((*run)->active()) {
    const PassResult pass = cohort.Pass({run->get()});
    CHECK(pass.status.ok()) << pass.status;
    for (const RunMetrics& step : pass.metrics) metrics.push_back(step.metrics);
  }
  CHECK((*run)->status().ok()) << (*run)->status();
  return metrics;
}

std::vector<float> GoldenStart(const Json& setting, const std::vector<LoraTarget>& targets) {
  const std::vector<AdapterTensor> tensors = AdapterTensors(targets);
  std::vector<float> values(TrainableParameters(targets), 0.0f);
  // By layer number, then slot: not the order of names.
  std::vector<const AdapterTensor*> ordered;
  for (const AdapterTensor& tensor : tensors) {
    if (tensor.is_a) ordered.push_back(&tensor);
  }
  std::sort(ordered.begin(), ordered.end(), [&](const AdapterTensor* a, const AdapterTensor* b) {
    const LinearModule& first = targets[a->target].module;
    const LinearModule& second = targets[b->target].module;
    return std::pair(first.layer, first.slot) < std::pair(second.layer, second.slot);
  });
  const uint64_t seed = setting["seed"];
  uint64_t n = 0;
  for (const AdapterTensor* tensor : ordered) {
    const double root = std::sqrt(static_cast<double>(tensor->shape[1]));
    for (int64_t i = 0; i < tensor->elements(); ++i) {
      const double u = static_cast<double>(SplitMix64(seed, n++) >> 40) * 0x1p-24;
      values[tensor->offset + i] = static_cast<float>((2 * u - 1) / root);
    }
  }
  return values;
}

AdapterDistance Distance(const std::vector<float>& got, const std::vector<float>& want,
                         const std::vector<float>& start) {
  CHECK_EQ(got.size(), want.size());
  CHECK_EQ(start.size(), want.size());
  double difference = 0, change = 0, above = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(double{got[i]} - want[i], 2);
    change += std::pow(double{want[i]} - start[i], 2);
    above += std::abs(got[i] - want[i]) > 1e-3f;
  }
  return {std::sqrt(difference / change), above / static_cast<double>(want.size())};
}

}  // namespace deltaworks::trainer

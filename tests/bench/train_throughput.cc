// Trains a stored model on given token ids and prints one line of JSON with tokens per second, for
// tests/bench/train. All tokens of the examples count, as they do for the peer.

#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "glog/logging.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/model/weights.h"
#include "trainer/train/cohort.h"

namespace deltaworks::trainer {
namespace {

std::shared_ptr<TrainingData> ReadData(const std::string& path) {
  const auto text = ReadFile(path);
  CHECK(text.ok()) << text.status();
  const auto json = ParseJson(*text, path);
  CHECK(json.ok()) << json.status();
  auto data = std::make_shared<TrainingData>();
  for (const Json& item : *json) {
    Example example{.ids = item["ids"].get<std::vector<int32_t>>()};
    const int64_t prompt = item["prompt_tokens"];
    for (int64_t i = 0; i < example.tokens(); ++i) example.is_label.push_back(i >= prompt);
    data->train.push_back(std::move(example));
  }
  return data;
}

void Run(const std::string& model_folder, const std::string& data_path, TrainingConfig config,
         int threads, int warmup_steps) {
  const auto weights = ModelWeights::Open(model_folder);
  CHECK(weights.ok()) << weights.status();
  const DType type = (*weights)->manifest().form;
  const auto backend = *NewCpuBackend({.compute_type = type, .threads = threads});
  const auto data = ReadData(data_path);
  int64_t longest = 2;
  for (const Example& example : data->train) longest = std::max(longest, example.tokens());
  const auto model = Llama::Create(*backend, (*weights)->config(), (*weights)->tensors(),
                                   {.positions_max = longest});
  CHECK(model.ok()) << model.status();
  const auto run = TrainingRun::Create(**model, config, data, {});
  CHECK(run.ok()) << run.status();
  Cohort cohort(**model);
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin = Clock::now();
  int64_t tokens_before = 0, tokens = 0;
  double loss = 0;
  while ((*run)->active()) {
    const auto metrics = cohort.Pass({run->get()});
    CHECK(metrics.ok()) << metrics.status();
    for (const RunMetrics& step : *metrics) {
      tokens = step.metrics.tokens;
      loss = step.metrics.loss;
      if (step.metrics.step == warmup_steps) {
        begin = Clock::now();
        tokens_before = tokens;
      }
    }
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const Json result = {{"numerics_class", backend->numerics_class()},
                       {"tokens_per_second", static_cast<double>(tokens - tokens_before) / seconds},
                       {"seconds", seconds},
                       {"last_loss", loss}};
  std::cout << JsonText(result) << "\n";
}

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  std::string model, data;
  deltaworks::trainer::TrainingConfig config;
  config.learning_rate = 1e-4;
  config.max_steps = 6;
  config.lora.rank = 16;
  config.lora.lora_alpha = 16;
  int threads = 2, warmup = 2;
  CLI::App app("Training throughput of the cpu backend.");
  app.add_option("--model", model, "folder of a stored model; its form is the compute type")
      ->required();
  app.add_option("--data", data, "JSON: list of {ids, prompt_tokens}")->required();
  app.add_option("--rank", config.lora.rank);
  app.add_option("--batch", config.per_device_train_batch_size, "examples of a step");
  app.add_option("--steps", config.max_steps);
  app.add_option("--warmup", warmup, "steps that are not timed");
  app.add_option("--micro-batch-tokens", config.micro_batch_tokens);
  app.add_option("--threads", threads);
  CLI11_PARSE(app, argc, argv);
  deltaworks::trainer::Run(model, data, config, threads, warmup);
}

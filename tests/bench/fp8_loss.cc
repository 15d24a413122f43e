// What a base in fp8 does to the loss: trains one job in f32, in bf16 and over a base in fp8 (the
// rest in f32, see fp8_base_backend.h), same weights, data and order, and prints how far the losses
// of the last two are from the first's, step by step.
//
//   bazel run //tests/bench:fp8_loss -- --model FOLDER --data JSONL [--validation JSONL]
//
// FOLDER: an import in bf16.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "glog/logging.h"
#include "tests/bench/fp8_base_backend.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/data/chat_renderer.h"
#include "trainer/data/dataset_report.h"
#include "trainer/data/text_encoder.h"
#include "trainer/model/weights.h"
#include "trainer/tokenizer/tokenizer.h"
#include "trainer/train/cohort.h"

namespace deltaworks::trainer {
namespace {

constexpr size_t kDataBytesMax = size_t{1} << 30;

struct Settings {
  std::string model, data, validation;
  int64_t steps = 500;
  int64_t examples = 2;
  int64_t rank = 16;
  double learning_rate = 2e-4;
  int threads = 2;
};

std::vector<Example> Read(const Settings& settings, const std::string& path) {
  if (path.empty()) return {};
  const auto jsonl = ReadFile(path, kDataBytesMax);
  CHECK(jsonl.ok()) << jsonl.status();
  const auto tokenizer = Tokenizer::FromFolder(settings.model);
  CHECK(tokenizer.ok()) << tokenizer.status();
  const TextEncoder encoder(**tokenizer, MakeChatRenderer(ChatTemplate::FromFolder(settings.model)),
                            {.max_length = 512, .truncation = Truncation::kTruncate});
  auto examples = ReadExamples(*jsonl, encoder);
  CHECK(examples.ok()) << examples.status();
  return *std::move(examples);
}

struct Losses {
  std::vector<double> of_steps;
  std::vector<double> eval;  // Before the first and after the last step.
};

Losses Train(const Settings& settings, const ModelWeights& weights,
             const std::shared_ptr<const TrainingData>& data, DType type, bool fp8_base) {
  const auto begin = std::chrono::steady_clock::now();
  const auto cpu = NewCpuBackend({.compute_type = type, .threads = settings.threads});
  CHECK(cpu.ok()) << cpu.status();
  Fp8BaseBackend over_fp8(**cpu);
  Backend& backend = fp8_base ? over_fp8 : **cpu;
  const auto model = Llama::Create(backend, weights.config(), weights.tensors(),
                                   {.positions_max = 513, .convert_weights = type == DType::kF32});
  CHECK(model.ok()) << model.status();
  TrainingConfig config;
  config.lora.rank = settings.rank;
  config.lora.lora_alpha = 2 * settings.rank;
  config.learning_rate = settings.learning_rate;
  config.max_steps = settings.steps;
  config.per_device_train_batch_size = settings.examples;
  const auto run = TrainingRun::Create(**model, config, data, {});
  CHECK(run.ok()) << run.status();
  Cohort cohort(**model);
  Losses losses;
  while ((*run)->active()) {
    const PassResult pass = cohort.Pass({run->get()});
    CHECK(pass.status.ok()) << pass.status;
    for (const RunMetrics& step : pass.metrics) {
      if (step.metrics.step > 0) losses.of_steps.push_back(step.metrics.loss);
      if (step.metrics.eval_loss.has_value()) losses.eval.push_back(*step.metrics.eval_loss);
    }
  }
  CHECK((*run)->finished()) << (*run)->status();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::cerr << backend.numerics_class() << ": " << losses.of_steps.size() << " steps, "
            << took.count() << " s\n";
  return losses;
}

double Mean(const std::vector<double>& values, size_t begin) {
  double sum = 0;
  for (size_t i = begin; i < values.size(); ++i) sum += values[i];
  return sum / static_cast<double>(values.size() - begin);
}

void Print(const std::string& name, const Losses& losses, const Losses& f32) {
  double signed_sum = 0, squares = 0, largest = 0;
  for (size_t i = 0; i < losses.of_steps.size(); ++i) {
    const double difference = losses.of_steps[i] - f32.of_steps[i];
    signed_sum += difference;
    squares += difference * difference;
    largest = std::max(largest, std::abs(difference));
  }
  const auto steps = static_cast<double>(losses.of_steps.size());
  const size_t last = losses.of_steps.size() - losses.of_steps.size() / 5;
  Json line = {{"type", name},
               {"steps", losses.of_steps.size()},
               {"first_loss", losses.of_steps.front()},
               {"mean_loss_of_last_fifth", Mean(losses.of_steps, last)},
               {"mean_difference", signed_sum / steps},
               {"root_mean_square_difference", std::sqrt(squares / steps)},
               {"largest_difference", largest}};
  if (!losses.eval.empty()) {
    line["eval_loss_before"] = losses.eval.front();
    line["eval_loss_after"] = losses.eval.back();
  }
  std::cout << JsonText(line) << std::endl;
}

void Run(const Settings& settings) {
  const auto weights = ModelWeights::Open(settings.model);
  CHECK(weights.ok()) << weights.status();
  CHECK((*weights)->manifest().form == DType::kBF16) << "--model is not in bf16";
  auto data = std::make_shared<TrainingData>();
  data->train = Read(settings, settings.data);
  data->validation = Read(settings, settings.validation);
  const Losses f32 = Train(settings, **weights, data, DType::kF32, /*fp8_base=*/false);
  Print("f32", f32, f32);
  Print("bf16", Train(settings, **weights, data, DType::kBF16, /*fp8_base=*/false), f32);
  Print("fp8 base", Train(settings, **weights, data, DType::kF32, /*fp8_base=*/true), f32);
}

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  deltaworks::trainer::Settings settings;
  CLI::App app("Losses over a base in fp8, beside f32 and bf16.");
  app.add_option("--model", settings.model, "folder of a model stored in bf16")->required();
  app.add_option("--data", settings.data, "JSON lines, as a dataset")->required();
  app.add_option("--validation", settings.validation, "the same; evaluated first and last");
  app.add_option("--steps", settings.steps)->capture_default_str();
  app.add_option("--examples", settings.examples, "of a step")->capture_default_str();
  app.add_option("--rank", settings.rank)->capture_default_str();
  app.add_option("--learning-rate", settings.learning_rate)->capture_default_str();
  app.add_option("--threads", settings.threads)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  deltaworks::trainer::Run(settings);
}

// What the host takes to issue passes on a model of a known shape, and of how many launches,
// products and copies they are, without a card: the real trainer and generator over a Gpu that does
// nothing, with and without graphs. What the driver takes of each call comes on top: an H100
// answered 3 us a launch, and 0.8 us where it is part of a graph (README.md).
//
//   issue_benchmark --model smollm2-135m --job 16:4 --tokens 128      a training step
//   issue_benchmark --model smollm2-135m --streams 16                 a step of decoding

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "glog/logging.h"
#include "tests/gpu/model_shapes.h"
#include "tests/gpu/plan_memory.h"
#include "trainer/backend/cuda/gpu_backend.h"
#include "trainer/backend/cuda/graphed_gpu.h"
#include "trainer/base/json.h"
#include "trainer/generate/generator.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/lora_config.h"
#include "trainer/train/cohort.h"

namespace deltaworks::trainer {
namespace {

using Clock = std::chrono::steady_clock;

struct Settings {
  std::string model = "smollm2-135m";
  int64_t layers = 0;
  std::vector<std::string> jobs = {"16:4"};
  int64_t tokens = 128;
  double dropout = 0;
  int64_t streams = 0;
  std::vector<int64_t> ranks = {8, 16, 32, 64};
  int64_t steps = 60;
  int64_t warmup_steps = 10;
};

// Calls `step` some times, and then times it; the least time, since others use this machine too.
Json Timed(const Settings& settings, bool graphs, const GpuCalls& calls,
           const std::function<void()>& step) {
  for (int64_t i = 0; i < settings.warmup_steps; ++i) step();
  const GpuCalls before = calls;
  double seconds = 1e30;
  for (int64_t i = settings.warmup_steps; i < settings.steps; ++i) {
    const Clock::time_point begin = Clock::now();
    step();
    seconds = std::min(seconds, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  const auto timed = static_cast<double>(settings.steps - settings.warmup_steps);
  const auto a_step = [&](int64_t GpuCalls::*count) {
    return static_cast<double>(calls.*count - before.*count) / timed;
  };
  return {{"model", settings.model},
          {"graphs", graphs},
          {"launches", a_step(&GpuCalls::launches)},
          {"products", a_step(&GpuCalls::products)},
          {"copies", a_step(&GpuCalls::copies)},
          {"graph_runs", a_step(&GpuCalls::graphs)},
          {"waits", a_step(&GpuCalls::waits)},
          {"host_milliseconds", 1000 * seconds}};
}

Json Train(const Settings& settings, bool graphs, const Llama& model, const GpuCalls& calls) {
  const auto runs =
      NewRuns(model, ParseJobs(settings.jobs), settings.tokens, settings.steps, settings.dropout);
  std::vector<TrainingRun*> members;
  for (const auto& run : runs) members.push_back(run.get());
  Cohort cohort(model);
  return Timed(settings, graphs, calls, [&] {
    const PassResult pass = cohort.Pass(members);
    CHECK(pass.status.ok()) << pass.status;
  });
}

Json Decode(const Settings& settings, bool graphs, const Llama& model, const GpuCalls& calls) {
  std::vector<std::unique_ptr<Adapter>> adapters;
  const int64_t rows = settings.tokens + settings.steps + kKeyPage;
  const auto pool = KvPool::Create(model.backend(), model.config(), settings.streams * rows);
  CHECK(pool.ok()) << pool.status();
  // All prompts in the first step.
  const auto generator = Generator::CreateOn(
      model, **pool,
      {.streams_max = settings.streams, .prompt_rows_max = settings.streams * settings.tokens});
  for (int64_t i = 0; i < settings.streams; ++i) {
    LoraConfig lora;
    lora.rank = settings.ranks[i % settings.ranks.size()];
    const auto targets = ResolveTargets(lora, model.modules());
    CHECK(targets.ok()) << targets.status();
    adapters.push_back(*Adapter::Create(model.backend(), *targets, /*trainable=*/false));
    GenerationRequest request{.prompt = std::vector<int32_t>(settings.tokens, 1),
                              .adapter = adapters.back().get(),
                              .max_new_tokens = settings.steps + 1};
    CHECK(generator->Add(std::move(request)).ok());
  }
  return Timed(settings, graphs, calls, [&] { CHECK(generator->Step().ok()); });
}

void Run(const Settings& settings) {
  const ModelConfig config = ConfigNamed(settings.model, settings.layers);
  // Norms are read on their way to the card; the others go past the host's memory.
  const std::vector<float> ones(config.hidden_size, 1);
  TensorMap weights = AbsentWeights(config);
  for (auto& [name, tensor] : weights) {
    if (tensor.shape.size() == 1) tensor.data = ones.data();
  }
  for (const bool graphs : {false, true}) {
    GpuMemory memory;
    GpuCalls calls;
    std::unique_ptr<cuda::Gpu> gpu;
    auto null_gpu = std::make_unique<NullGpu>(memory, &calls);
    if (graphs) {
      gpu = std::make_unique<cuda::GraphedGpu>(std::move(null_gpu), cuda::GraphOptions());
    } else {
      gpu = std::move(null_gpu);
    }
    const auto backend = NewGpuBackend(std::move(gpu), DType::kBF16, /*finished=*/nullptr);
    const auto model = Llama::Create(*backend, config, weights,
                                     {.positions_max = settings.tokens + settings.steps + 1});
    CHECK(model.ok()) << model.status();
    std::cout << JsonText(settings.streams > 0 ? Decode(settings, graphs, **model, calls)
                                               : Train(settings, graphs, **model, calls))
              << std::endl;
  }
}

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  deltaworks::trainer::Settings settings;
  CLI::App app("What the host takes to issue passes to a card, without one.");
  app.add_option("--model", settings.model, deltaworks::trainer::kModelNames)
      ->capture_default_str();
  app.add_option("--layers", settings.layers, "fewer than the model has");
  app.add_option("--job", settings.jobs, "RANK:EXAMPLES of a step; once for each of the cohort")
      ->capture_default_str();
  app.add_option("--tokens", settings.tokens, "of an example, or a prompt")->capture_default_str();
  app.add_option("--dropout", settings.dropout)->capture_default_str();
  app.add_option("--streams", settings.streams, "decode so many, instead of training");
  app.add_option("--rank", settings.ranks, "of the streams' adapters, by turns")
      ->capture_default_str();
  app.add_option("--steps", settings.steps)->capture_default_str();
  app.add_option("--warmup", settings.warmup_steps, "steps that are not timed")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  CHECK_GT(settings.steps, settings.warmup_steps);
  deltaworks::trainer::Run(settings);
}

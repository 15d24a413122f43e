// Trains one or more jobs together on a stored model and given token ids, and prints one line of
// JSON with their tokens per second, for the scripts of this folder. All tokens of the examples
// count, as they do for the peer (peft_throughput.py).

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"
#include "tests/bench/token_data.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/base/json.h"
#include "trainer/model/weights.h"
#include "trainer/train/cohort.h"

namespace deltaworks::trainer {
namespace {

struct Settings {
  std::string model;
  std::string data;
  std::vector<std::string> jobs = {"16:8"};
  int64_t steps = 6;
  int64_t warmup_steps = 2;
  int64_t micro_batch_tokens = TrainingConfig().micro_batch_tokens;
  int threads = 2;
};

// `job`: "RANK:EXAMPLES".
TrainingConfig ConfigOf(const Settings& settings, const std::string& job) {
  const std::vector<std::string> parts = absl::StrSplit(job, ':');
  TrainingConfig config;
  config.learning_rate = 1e-4;
  config.max_steps = settings.steps;
  config.micro_batch_tokens = settings.micro_batch_tokens;
  config.lora.lora_alpha = 16;
  CHECK(parts.size() == 2 && absl::SimpleAtoi(parts[0], &config.lora.rank) &&
        absl::SimpleAtoi(parts[1], &config.per_device_train_batch_size))
      << "--job is " << job << ", want RANK:EXAMPLES";
  return config;
}

int64_t Tokens(const std::map<const TrainingRun*, StepMetrics>& last) {
  int64_t tokens = 0;
  for (const auto& [run, metrics] : last) tokens += metrics.tokens;
  return tokens;
}

void Run(const Settings& settings) {
  const auto weights = ModelWeights::Open(settings.model);
  CHECK(weights.ok()) << weights.status();
  const auto backend =
      NewCpuBackend({.compute_type = (*weights)->manifest().form, .threads = settings.threads});
  CHECK(backend.ok()) << backend.status();
  const auto data = ReadTokenData(settings.data);
  int64_t longest = 2;
  for (const Example& example : data->train) longest = std::max(longest, example.tokens());
  const auto model = Llama::Create(**backend, (*weights)->config(), (*weights)->tensors(),
                                   {.positions_max = longest});
  CHECK(model.ok()) << model.status();
  std::vector<std::unique_ptr<TrainingRun>> runs;
  std::vector<TrainingRun*> members;
  for (const std::string& job : settings.jobs) {
    auto run = TrainingRun::Create(**model, ConfigOf(settings, job), data, {});
    CHECK(run.ok()) << run.status();
    members.push_back(run->get());
    runs.push_back(*std::move(run));
  }

  Cohort cohort(**model);
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin = Clock::now();
  std::map<const TrainingRun*, StepMetrics> last;
  int64_t tokens_before = 0;
  bool warm = settings.warmup_steps == 0;
  while (std::any_of(members.begin(), members.end(), [](auto* run) { return run->active(); })) {
    const PassResult pass = cohort.Pass(members);
    CHECK(pass.status.ok()) << pass.status;
    for (const RunMetrics& step : pass.metrics) last[step.run] = step.metrics;
    if (!warm && std::all_of(members.begin(), members.end(),
                             [&](auto* run) { return run->step() >= settings.warmup_steps; })) {
      warm = true;
      tokens_before = Tokens(last);
      begin = Clock::now();
    }
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  Json losses = Json::array();
  for (const TrainingRun* run : members) {
    CHECK(run->finished()) << run->status();
    losses.push_back(last[run].loss);
  }
  const auto tokens = static_cast<double>(Tokens(last) - tokens_before);
  std::cout << JsonText(Json{{"numerics_class", (*backend)->numerics_class()},
                             {"tokens_per_second", tokens / seconds},
                             {"seconds", seconds},
                             {"last_losses", losses}})
            << "\n";
}

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  deltaworks::trainer::Settings settings;
  CLI::App app("Training throughput of the cpu backend.");
  app.add_option("--model", settings.model,
                 "folder of a stored model; its form is the compute type")
      ->required();
  app.add_option("--data", settings.data, "JSON: list of {ids, prompt_tokens}")->required();
  app.add_option("--job", settings.jobs, "RANK:EXAMPLES of a step; once for each of the cohort")
      ->capture_default_str();
  app.add_option("--steps", settings.steps);
  app.add_option("--warmup", settings.warmup_steps, "steps that are not timed");
  app.add_option("--micro-batch-tokens", settings.micro_batch_tokens);
  app.add_option("--threads", settings.threads);
  CLI11_PARSE(app, argc, argv);
  deltaworks::trainer::Run(settings);
}

// Trains jobs together on a model of a known shape with random weights, and prints tokens a second.
// With --profile it prints instead what each operation took, one after the other: their sum is more
// than a pass takes, since the processor waits for each.
//
//   train_benchmark --model llama-8b --job 16:1 --tokens 4096 [--profile]

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
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"
#include "tests/gpu/block_of_weights.h"
#include "tests/gpu/model_shapes.h"
#include "trainer/backend/cuda/cuda_backend.h"
#include "trainer/base/json.h"
#include "trainer/train/cohort.h"

namespace deltaworks::trainer {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Settings {
  std::string model = "llama-8b";
  int64_t layers = 0;
  std::vector<std::string> jobs = {"16:1"};
  int64_t tokens = 4096;
  int64_t steps = 6;
  int64_t warmup_steps = 2;
  double dropout = 0;
  bool fp8 = false;
  bool graphs = false;
  bool profile = false;
};

struct Shares {
  std::map<std::string, double> seconds;
  std::map<std::string, int64_t> calls;
  Clock::time_point last = Clock::now();
};

// FLOPs of a token of a document of `tokens`: the frozen weights forward and for dx, attention
// forward and 2.5 times that backward, half of it masked.
double FlopsOfToken(const ModelConfig& config, int64_t tokens) {
  double weights = static_cast<double>(config.vocab_size) * config.hidden_size;
  for (const LinearModule& module : LlamaModules(config)) {
    weights += static_cast<double>(module.n) * module.k;
  }
  const double attention = 3.5 * 2 * static_cast<double>(tokens) * config.num_hidden_layers *
                           config.num_attention_heads * config.head_dim;
  return 4 * weights + attention;
}

void PrintShares(const Shares& shares, int64_t passes) {
  double sum = 0;
  for (const auto& [operation, seconds] : shares.seconds) sum += seconds;
  std::cout << absl::StrFormat("%-22s %8s %10s %7s\n", "operation", "calls", "ms a pass", "share");
  for (const auto& [operation, seconds] : shares.seconds) {
    std::cout << absl::StrFormat("%-22s %8d %10.2f %6.1f%%\n", operation,
                                 shares.calls.at(operation) / passes,
                                 1000 * seconds / static_cast<double>(passes), 100 * seconds / sum);
  }
}

void Run(const Settings& settings) {
  Shares shares;
  CudaOptions options;
  if (settings.fp8) options.compute_type = DType::kF8E4M3;
  options.graphs = settings.graphs;
  if (settings.profile) {
    options.finished = [&shares](const char* operation) {
      shares.seconds[operation] += SecondsSince(shares.last);
      ++shares.calls[operation];
      shares.last = Clock::now();
    };
  }
  auto backend = NewCudaBackend(options);
  CHECK(backend.ok()) << backend.status();
  const ModelConfig config = ConfigNamed(settings.model, settings.layers);
  Clock::time_point begin = Clock::now();
  const auto weights = std::make_unique<BlockOfWeights>(config);
  auto model =
      Llama::Create(**backend, config, weights->tensors(), {.positions_max = settings.tokens + 1});
  CHECK(model.ok()) << model.status();
  const double load_seconds = SecondsSince(begin);
  const auto runs =
      NewRuns(**model, ParseJobs(settings.jobs), settings.tokens, settings.steps, settings.dropout);
  std::vector<TrainingRun*> members;
  for (const auto& run : runs) members.push_back(run.get());

  Cohort cohort(**model);
  int64_t passes = 0, tokens = 0;
  while (members[0]->active()) {
    if (passes == settings.warmup_steps) {
      shares = Shares();
      tokens = 0;
      begin = Clock::now();
    }
    const PassResult pass = cohort.Pass(members);
    CHECK(pass.status.ok()) << pass.status;
    ++passes;
    for (const RunTurn& turn : pass.turns) tokens += turn.tokens;
  }
  const double seconds = SecondsSince(begin);
  for (const TrainingRun* run : members) CHECK(run->finished()) << run->status();
  const int64_t timed = passes - settings.warmup_steps;
  if (settings.profile) PrintShares(shares, timed);
  const double rate = static_cast<double>(tokens) / seconds;
  std::cout << JsonText(Json{{"model", settings.model},
                             {"layers", config.num_hidden_layers},
                             {"jobs", settings.jobs},
                             {"tokens_of_example", settings.tokens},
                             {"dropout", settings.dropout},
                             {"profiled", settings.profile},
                             {"graphs", settings.graphs},
                             {"numerics_class", (*backend)->numerics_class()},
                             {"load_seconds", load_seconds},
                             {"tokens_per_pass", tokens / timed},
                             {"milliseconds_per_pass", 1000 * seconds / timed},
                             {"tokens_per_second", rate},
                             {"tflops", rate * FlopsOfToken(config, settings.tokens) / 1e12}})
            << std::endl;
}

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  deltaworks::trainer::Settings settings;
  CLI::App app("Training throughput of the cuda backend on shapes of known models.");
  app.add_option("--model", settings.model, deltaworks::trainer::kModelNames)
      ->capture_default_str();
  app.add_option("--layers", settings.layers, "fewer than the model has");
  app.add_option("--job", settings.jobs, "RANK:EXAMPLES of a step; once for each of the cohort")
      ->capture_default_str();
  app.add_option("--tokens", settings.tokens, "of an example")->capture_default_str();
  app.add_option("--steps", settings.steps)->capture_default_str();
  app.add_option("--warmup", settings.warmup_steps, "steps that are not timed")
      ->capture_default_str();
  app.add_option("--dropout", settings.dropout)->capture_default_str();
  app.add_flag("--fp8", settings.fp8, "over a base in fp8");
  app.add_flag("--graphs", settings.graphs, "issue what repeats as CUDA graphs");
  app.add_flag("--profile", settings.profile, "print what each operation takes");
  CLI11_PARSE(app, argc, argv);
  CHECK_GT(settings.steps, settings.warmup_steps);
  deltaworks::trainer::Run(settings);
}

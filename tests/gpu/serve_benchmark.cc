// Generates text of several streams at a time on a model of a known shape with random weights, and
// prints tokens a second: with an adapter of its own for each stream, by turns of the given ranks,
// and without any, in turn; and what share of the card's bandwidth a step's weights, keys and
// values are.
//
//   serve_benchmark --model llama-8b --streams 16 --rank 8 --rank 64

#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "glog/logging.h"
#include "tests/gpu/block_of_weights.h"
#include "tests/gpu/model_shapes.h"
#include "trainer/backend/cuda/cuda_backend.h"
#include "trainer/base/json.h"
#include "trainer/generate/generator.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/lora_config.h"

namespace deltaworks::trainer {
namespace {

using Clock = std::chrono::steady_clock;

struct Settings {
  std::string model = "llama-8b";
  int64_t layers = 0;
  int64_t streams = 16;
  std::vector<int64_t> ranks = {8, 16, 32, 64};
  int64_t prompt = 512;
  int64_t tokens = 128;
  int64_t rounds = 2;
  bool graphs = false;
  double bandwidth_gb = 3025;
};

// Weights that a step reads, and the keys and values of all streams half way through.
double BytesOfStep(const ModelConfig& config, const Settings& settings) {
  double weights = static_cast<double>(config.vocab_size) * config.hidden_size;
  for (const LinearModule& module : LlamaModules(config)) {
    weights += static_cast<double>(module.n) * module.k;
  }
  const double keys = static_cast<double>(settings.prompt) + settings.tokens / 2.0;
  const double row = 2.0 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim;
  return 2 * (weights + settings.streams * keys * row);
}

struct Rate {
  double prompt_tokens_per_second = 0;
  double tokens_per_second = 0;
  double milliseconds_per_step = 0;
};

// All streams at once; `adapters` empty: the base alone.
Rate Generate(const Llama& model, const Settings& settings,
              const std::vector<std::unique_ptr<Adapter>>& adapters) {
  const auto pool =
      KvPool::Create(model.backend(), model.config(),
                     settings.streams * (settings.prompt + settings.tokens + kKeyPage));
  CHECK(pool.ok()) << pool.status();
  const auto generator = Generator::CreateOn(
      model, **pool, {.streams_max = settings.streams, .prompt_rows_max = 4096});
  for (int64_t i = 0; i < settings.streams; ++i) {
    GenerationRequest request{.max_new_tokens = settings.tokens};
    for (int64_t j = 0; j < settings.prompt; ++j) {
      request.prompt.push_back(
          static_cast<int32_t>((j * 131 + i * 17) % model.config().vocab_size));
    }
    if (!adapters.empty()) request.adapter = adapters[i].get();
    CHECK(generator->Add(std::move(request)).ok());
  }
  Rate rate;
  Clock::time_point begin = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  // Until every stream has its first token; what others generate meanwhile counts for nothing.
  std::set<int64_t> begun;
  int64_t rest = 0, steps = 0;
  while (generator->active() > 0) {
    const auto step = generator->Step();
    CHECK(step.ok()) << step.status();
    if (std::ssize(begun) < settings.streams) {
      for (const GeneratedToken& token : *step) begun.insert(token.stream);
      if (std::ssize(begun) < settings.streams) continue;
      rate.prompt_tokens_per_second =
          static_cast<double>(settings.streams * settings.prompt) / seconds();
      begin = Clock::now();
      continue;
    }
    rest += static_cast<int64_t>(step->size());
    ++steps;
  }
  rate.tokens_per_second = static_cast<double>(rest) / seconds();
  rate.milliseconds_per_step = 1000 * seconds() / static_cast<double>(steps);
  return rate;
}

std::vector<std::unique_ptr<Adapter>> MakeAdapters(const Llama& model, const Settings& settings) {
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (int64_t i = 0; i < settings.streams; ++i) {
    LoraConfig lora;
    lora.rank = settings.ranks[i % settings.ranks.size()];
    const auto targets = ResolveTargets(lora, model.modules());
    CHECK(targets.ok()) << targets.status();
    auto adapter = Adapter::Create(model.backend(), *targets, /*trainable=*/false);
    CHECK(adapter.ok()) << adapter.status();
    (*adapter)->WriteParameters(std::vector<float>((*adapter)->elements(), 1e-3f));
    adapters.push_back(*std::move(adapter));
  }
  return adapters;
}

void Run(const Settings& settings) {
  const auto backend = NewCudaBackend({.graphs = settings.graphs});
  CHECK(backend.ok()) << backend.status();
  const ModelConfig config = ConfigNamed(settings.model, settings.layers);
  const BlockOfWeights weights(config);
  const auto model = Llama::Create(**backend, config, weights.tensors(),
                                   {.positions_max = settings.prompt + settings.tokens});
  CHECK(model.ok()) << model.status();
  const auto adapters = MakeAdapters(**model, settings);
  for (int64_t round = 0; round < settings.rounds; ++round) {
    const Rate base = Generate(**model, settings, {});
    const Rate own = Generate(**model, settings, adapters);
    const double roof_ms = 1000 * BytesOfStep(config, settings) / (1e9 * settings.bandwidth_gb);
    std::cout << JsonText(Json{{"model", settings.model},
                               {"layers", config.num_hidden_layers},
                               {"streams", settings.streams},
                               {"ranks", settings.ranks},
                               {"prompt", settings.prompt},
                               {"tokens", settings.tokens},
                               {"graphs", settings.graphs},
                               {"numerics_class", (*backend)->numerics_class()},
                               {"prompt_tokens_per_second_base", base.prompt_tokens_per_second},
                               {"tokens_per_second_base", base.tokens_per_second},
                               {"milliseconds_per_step_base", base.milliseconds_per_step},
                               {"bandwidth_share_base", roof_ms / base.milliseconds_per_step},
                               {"prompt_tokens_per_second", own.prompt_tokens_per_second},
                               {"tokens_per_second", own.tokens_per_second},
                               {"milliseconds_per_step", own.milliseconds_per_step},
                               {"bandwidth_share", roof_ms / own.milliseconds_per_step},
                               {"ratio", own.tokens_per_second / base.tokens_per_second}})
              << std::endl;
  }
}

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  deltaworks::trainer::Settings settings;
  CLI::App app("Serving throughput of the cuda backend on shapes of known models.");
  app.add_option("--model", settings.model, deltaworks::trainer::kModelNames)
      ->capture_default_str();
  app.add_option("--layers", settings.layers, "fewer than the model has");
  app.add_option("--streams", settings.streams, "each with an adapter of its own")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--rank", settings.ranks, "of the adapters, by turns")->capture_default_str();
  app.add_option("--prompt", settings.prompt, "tokens of each")->capture_default_str();
  app.add_option("--tokens", settings.tokens, "to generate for each")->capture_default_str();
  app.add_option("--rounds", settings.rounds, "base and adapters by turns")->capture_default_str();
  app.add_flag("--graphs", settings.graphs, "issue what repeats as CUDA graphs");
  app.add_option("--gb-per-second", settings.bandwidth_gb, "of the card, read and written")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  CHECK_GE(settings.tokens, 2);
  deltaworks::trainer::Run(settings);
}

// Decodes on a stored model, greedily, one stream or several, each with a random adapter of its
// own, in one batch; prints one line of JSON, for tests/bench/generate. The peer is
// peft_generate.py.
//
// Also what a switch costs between adapters that are in memory: a token of one stream, each time
// with another adapter than before, less a token with the same one.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "glog/logging.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/base/json.h"
#include "trainer/generate/generator.h"
#include "trainer/lora/adapter.h"
#include "trainer/model/weights.h"

namespace deltaworks::trainer {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSwitchPairs = 64;

struct Settings {
  std::string model;
  int64_t streams = 1;
  int64_t adapters = 16;
  int64_t rank = 16;
  int64_t prompt = 32;
  int64_t tokens = 64;
  int threads = 2;
};

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

template <typename T>
T Must(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return *std::move(value);
}

// A and B random; B as large as after some training.
std::unique_ptr<Adapter> RandomAdapter(const Llama& model, int64_t rank, uint64_t seed) {
  auto adapter =
      Must(Adapter::Create(model.backend(), Must(ResolveTargets({.rank = rank}, model.modules())),
                           /*trainable=*/false));
  adapter->InitializeRandom(seed);
  std::vector<float> values = adapter->ReadParameters();
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.005f);
  for (const AdapterTensor& tensor : adapter->tensors()) {
    if (tensor.is_a) continue;
    const auto begin = values.begin() + tensor.offset;
    std::generate(begin, begin + tensor.elements(), [&] { return normal(random); });
  }
  adapter->WriteParameters(values);
  return adapter;
}

class Benchmark {
 public:
  explicit Benchmark(const Settings& settings)
      : settings_(settings),
        weights_(Must(ModelWeights::Open(settings.model))),
        backend_(Must(NewCpuBackend(
            {.compute_type = weights_->manifest().form, .threads = settings.threads}))),
        model_(Must(Llama::Create(*backend_, weights_->config(), weights_->tensors(),
                                  {.positions_max = settings.prompt + settings.tokens}))) {
    for (int64_t i = 0; i < settings.adapters; ++i) {
      adapters_.push_back(RandomAdapter(*model_, settings.rank, i + 1));
    }
  }

  void Run() const {
    Decode();  // Not counted.
    const double seconds = Decode();
    const auto tokens = static_cast<double>(settings_.streams * (settings_.tokens - 1));
    std::cout << JsonText(Json{{"numerics_class", backend_->numerics_class()},
                               {"tokens_per_second", tokens / seconds},
                               {"seconds", seconds},
                               {"switch_ms", SwitchSeconds() * 1e3}})
              << "\n";
  }

 private:
  GenerationRequest Request(int64_t adapter, int64_t prompt, int64_t tokens) const {
    std::mt19937 random(adapter + 1);
    GenerationRequest request{.adapter = adapters_[adapter % adapters_.size()].get(),
                              .max_new_tokens = tokens};
    for (int64_t i = 0; i < prompt; ++i) {
      request.prompt.push_back(static_cast<int32_t>(random() % weights_->config().vocab_size));
    }
    return request;
  }

  // Seconds of all tokens but each stream's first.
  double Decode() const {
    const auto generator = Must(Generator::Create(*model_, settings_.streams));
    for (int64_t i = 0; i < settings_.streams; ++i) {
      Must(generator->Add(Request(i, settings_.prompt, settings_.tokens)));
    }
    Clock::time_point begin;
    int64_t tokens = 0;
    while (generator->active() > 0) {
      tokens += static_cast<int64_t>(Must(generator->Step()).size());
      // Prompts are read in one pass if they fit, and in turn with others' tokens otherwise.
      CHECK(tokens == 0 || tokens >= settings_.streams) << "prompts do not fit in one pass";
      if (tokens == settings_.streams) begin = Clock::now();
    }
    CHECK_EQ(tokens, settings_.streams * settings_.tokens);
    return SecondsSince(begin);
  }

  // A request of one token, from its taking to its answer.
  double Ask(Generator& generator, int64_t adapter) const {
    GenerationRequest request = Request(adapter, /*prompt=*/1, /*tokens=*/1);
    const Clock::time_point begin = Clock::now();
    Must(generator.Add(std::move(request)));
    CHECK_EQ(Must(generator.Step()).size(), 1u);
    return SecondsSince(begin);
  }

  double SwitchSeconds() const {
    const auto generator = Must(Generator::Create(*model_, 1));
    std::vector<double> more;
    for (int64_t i = 0; i < kSwitchPairs; ++i) {
      Ask(*generator, i);
      const double same = Ask(*generator, i);
      more.push_back(Ask(*generator, i + 1) - same);
    }
    std::nth_element(more.begin(), more.begin() + kSwitchPairs / 2, more.end());
    return more[kSwitchPairs / 2];
  }

  const Settings settings_;
  const std::unique_ptr<ModelWeights> weights_;
  const std::unique_ptr<Backend> backend_;
  const std::unique_ptr<Llama> model_;
  std::vector<std::unique_ptr<Adapter>> adapters_;
};

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  deltaworks::trainer::Settings settings;
  CLI::App app("Decode throughput of streams with different adapters on the cpu backend.");
  app.add_option("--model", settings.model,
                 "folder of a stored model; its form is the compute type")
      ->required();
  app.add_option("--streams", settings.streams)->check(CLI::Range(1, 64));
  app.add_option("--adapters", settings.adapters)->check(CLI::Range(1, 64));
  app.add_option("--rank", settings.rank);
  app.add_option("--prompt", settings.prompt, "tokens of each prompt")->check(CLI::Range(1, 4096));
  app.add_option("--tokens", settings.tokens, "of each stream")->check(CLI::Range(2, 4096));
  app.add_option("--threads", settings.threads);
  CLI11_PARSE(app, argc, argv);
  deltaworks::trainer::Benchmark(settings).Run();
}

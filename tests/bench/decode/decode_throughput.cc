// Decode tokens per second of a stored model alone, merged with an adapter, and with the adapter
// beside it, interleaved in one run; whether merged runs the base's operations on its shapes and is
// as large; and what a switch of adapters costs. Status 1 if one of these does not hold.

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "glog/logging.h"
#include "tests/bench/decode/decode_case.h"
#include "tests/bench/decode/tracing_backend.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/formats/safetensors.h"
#include "trainer/model/weights.h"

namespace deltaworks::trainer {
namespace {

struct Settings {
  std::string model;
  std::string adapter;
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  int pairs = 15;
  int64_t prompt = 32;
  int64_t tokens = 64;
  double ratio_min = 0.98;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

template <typename T>
T Must(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return *std::move(value);
}

int64_t Parameters(const TensorMap& tensors) {
  int64_t count = 0;
  for (const auto& [name, tensor] : tensors) count += tensor.elements();
  return count;
}

// Bytes of the tensors as a file; it is removed again.
int64_t FileBytes(const TensorMap& tensors, const StringMap& metadata) {
  const std::string path =
      (std::filesystem::temp_directory_path() / absl::StrFormat("merged.%d.safetensors", getpid()))
          .string();
  std::vector<TensorPlan> plan;
  for (const auto& [name, tensor] : tensors) plan.push_back({name, tensor.dtype, tensor.shape});
  const auto writer = Must(SafetensorsWriter::Create(path, plan, metadata));
  for (const TensorPlan& planned : writer->order()) {
    const ConstTensorView& tensor = tensors.at(planned.name);
    const absl::Status status = writer->Append(
        {static_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes())});
    CHECK(status.ok()) << status;
  }
  CHECK(writer->Finish().ok());
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(path));
  std::filesystem::remove(path);
  return bytes;
}

bool Check(const std::string& what, bool holds) {
  std::cout << absl::StrFormat("%-48s %s\n", what, holds ? "yes" : "NO");
  return holds;
}

class Benchmark {
 public:
  explicit Benchmark(const Settings& settings)
      : settings_(settings),
        weights_(Must(ModelWeights::Open(settings.model))),
        backend_(Must(NewCpuBackend(
            {.compute_type = weights_->manifest().form, .threads = settings.threads}))),
        adapter_(Must(ReadPeftFolder(settings.adapter, LlamaModules(weights_->config())))) {
    std::mt19937 random(7);
    for (int64_t i = 0; i < settings.prompt; ++i) {
      prompt_.push_back(static_cast<int32_t>(random() % (weights_->config().vocab_size / 2)));
    }
  }

  bool Run() {
    std::cout << backend_->numerics_class() << ", " << settings_.threads << " threads, prompt "
              << settings_.prompt << ", " << settings_.tokens << " tokens\n";
    const bool same = SameWork();
    return Time() && same;
  }

 private:
  std::unique_ptr<DecodeCase> MakeCase(Backend& backend) const {
    return Must(DecodeCase::Create(backend, weights_->config(), weights_->tensors(), adapter_,
                                   settings_.prompt + settings_.tokens));
  }

  bool SameWork() const {
    TracingBackend tracing(*backend_);
    const auto decode_case = MakeCase(tracing);
    const auto trace = [&](DecodeMode mode) {
      tracing.TakeTrace();
      Must(decode_case->Run(mode, prompt_, std::min<int64_t>(8, settings_.tokens)));
      return tracing.TakeTrace();
    };
    const auto base = trace(DecodeMode::kBase);
    const TensorMap& merged = decode_case->merged().tensors();
    const std::string file = settings_.model + "/" + kWeightsFile;
    const auto stored = Must(SafetensorsFile::Open(file));
    bool holds = Check(absl::StrFormat("merged runs the base's %d operations", base.size()),
                       trace(DecodeMode::kMerged) == base);
    holds &= Check(
        absl::StrFormat("merged has the base's %d parameters", Parameters(weights_->tensors())),
        Parameters(merged) == Parameters(weights_->tensors()));
    const auto bytes = static_cast<int64_t>(std::filesystem::file_size(file));
    holds &= Check(absl::StrFormat("merged is a file of the base's %d bytes", bytes),
                   FileBytes(merged, stored->metadata()) == bytes);
    return holds;
  }

  bool Time() const {
    const auto decode_case = MakeCase(*backend_);
    const DecodeMode modes[] = {DecodeMode::kBase, DecodeMode::kMerged, DecodeMode::kUnmerged};
    for (const DecodeMode mode : modes) Must(decode_case->Run(mode, prompt_, settings_.tokens));
    std::vector<double> base, merged, unmerged, ratios;
    for (int pair = 0; pair < settings_.pairs; ++pair) {
      const auto speed = [&](DecodeMode mode) {
        return Must(decode_case->Run(mode, prompt_, settings_.tokens)).tokens_per_second();
      };
      // Each of a pair comes first as often, so that a drift of the machine favours neither.
      if (pair % 2 == 0) base.push_back(speed(DecodeMode::kBase));
      merged.push_back(speed(DecodeMode::kMerged));
      if (pair % 2 == 1) base.push_back(speed(DecodeMode::kBase));
      unmerged.push_back(speed(DecodeMode::kUnmerged));
      ratios.push_back(merged.back() / base.back());
    }
    const auto line = [](const char* name, const std::vector<double>& values) {
      std::cout << absl::StrFormat("%-10s %8.2f tokens/s (%.2f..%.2f)\n", name, Median(values),
                                   *std::min_element(values.begin(), values.end()),
                                   *std::max_element(values.begin(), values.end()));
    };
    line("base", base);
    line("merged", merged);
    line("unmerged", unmerged);
    std::cout << absl::StrFormat("switch to the adapter: unmerged %.1f ms, merged %.1f ms\n",
                                 decode_case->unmerged_switch_seconds() * 1e3,
                                 decode_case->merged_switch_seconds() * 1e3);
    return Check(absl::StrFormat("merged / base, median of %d pairs: %.4f, want >= %.2f",
                                 settings_.pairs, Median(ratios), settings_.ratio_min),
                 Median(ratios) >= settings_.ratio_min);
  }

  const Settings settings_;
  const std::unique_ptr<ModelWeights> weights_;
  const std::unique_ptr<Backend> backend_;
  const PeftAdapter adapter_;
  std::vector<int32_t> prompt_;
};

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  deltaworks::trainer::Settings settings;
  if (const char* folder = std::getenv("DELTAWORKS_SMOLLM2_BF16")) settings.model = folder;
  CLI::App app("Decode throughput of base, merged and unmerged on the cpu backend.");
  app.add_option("--model", settings.model,
                 "folder of a stored model; default: $DELTAWORKS_SMOLLM2_BF16");
  app.add_option("--adapter", settings.adapter, "PEFT folder of an adapter on it")->required();
  app.add_option("--threads", settings.threads);
  app.add_option("--pairs", settings.pairs)->check(CLI::Range(1, 1000));
  app.add_option("--prompt", settings.prompt, "tokens of the prompt")->check(CLI::Range(1, 4096));
  app.add_option("--tokens", settings.tokens, "decoded in each run")->check(CLI::Range(2, 4096));
  app.add_option("--ratio-min", settings.ratio_min);
  CLI11_PARSE(app, argc, argv);
  if (settings.model.empty()) {
    std::cerr << "--model is empty, want a folder, or DELTAWORKS_SMOLLM2_BF16 set\n";
    return 2;
  }
  return deltaworks::trainer::Benchmark(settings).Run() ? 0 : 1;
}

// Prints what training jobs together on a model of a known shape would need of a card, without one:
// the memory, and for each operation of a pass its FLOPs, its bytes and the time of both at the
// card's peaks. It takes the options of train_benchmark, whose --profile has the same
// operations, so that the two can be laid side by side.
//
//   plan --model llama-8b --job 16:1 --tokens 4096 [--card h100]

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "tests/gpu/model_shapes.h"
#include "tests/gpu/plan_memory.h"
#include "tests/gpu/plan_pass.h"
#include "tests/gpu/roofline.h"
#include "trainer/model/config.h"

namespace deltaworks::trainer {
namespace {

struct Card {
  int64_t memory_bytes;  // As CUDA reports it, whole GiB.
  double matrix_tflops;
  double fp8_tflops;
  double bandwidth_gb;
};

// README.md has the measurements: bf16 and e4m3 products warm and for seconds, a copy on the card.
constexpr Card kH100 = {int64_t{79} << 30, 690, 1140, 3025};
// The same multiprocessors at the same power; its bandwidth is estimated, what the datasheets
// promise more (4.8 against 3.35 TB/s) times what was measured.
constexpr Card kH200 = {int64_t{139} << 30, 690, 1140, 4334};

struct Settings {
  std::string model = "llama-8b";
  int64_t layers = 0;
  std::vector<std::string> jobs = {"16:1"};
  int64_t tokens = 4096;
  double dropout = 0;
  std::string card = "h100";
  bool fp8 = false;
  double matrix_tflops = 0;
  double bandwidth_gb = 0;
};

Card CardNamed(const Settings& settings) {
  CHECK(settings.card == "h100" || settings.card == "h200")
      << "--card is " << settings.card << ", want h100 or h200";
  Card card = settings.card == "h100" ? kH100 : kH200;
  if (settings.matrix_tflops > 0) card.matrix_tflops = settings.matrix_tflops;
  if (settings.bandwidth_gb > 0) card.bandwidth_gb = settings.bandwidth_gb;
  return card;
}

double Gigabytes(double bytes) { return bytes / 1e9; }

void PrintBytes(const std::string& what, int64_t bytes) {
  std::cout << absl::StrFormat("  %-48s %9.3f GB\n", what, Gigabytes(static_cast<double>(bytes)));
}

void PrintMemory(const MemoryPlan& plan, const Card& card, const std::string& card_name) {
  std::cout << "memory\n";
  PrintBytes(absl::StrCat("frozen weights, ", plan.parameters, " x 2"), plan.weight_bytes);
  PrintBytes("their room for adapters or scales, norms, RoPE", plan.room_bytes);
  PrintBytes("adapters, gradients, moments, rounded copies", plan.adapter_bytes);
  PrintBytes("activations kept for backward", plan.activation_bytes);
  PrintBytes("what layers share while they run", plan.layer_bytes);
  PrintBytes("scratch of operations", plan.scratch_bytes);
  PrintBytes("whole pages (estimated)", plan.page_waste_bytes);
  PrintBytes("cuBLASLt's workspace", cuda::kProductWorkspaceBytes);
  PrintBytes("CUDA's context (estimated)", kContextBytes);
  PrintBytes("total", plan.total_bytes());
  const int64_t left = card.memory_bytes - plan.total_bytes();
  PrintBytes(
      absl::StrCat(left < 0 ? "TOO MUCH for " : "left of ", card_name, "'s ",
                   absl::StrFormat("%.3f GB", Gigabytes(static_cast<double>(card.memory_bytes)))),
      std::abs(left));
  const std::string job = absl::StrCat("each further job of rank ", kFurtherRank);
  std::cout << absl::StrFormat("  %-48s %9.3f MB", "each further token in flight",
                               static_cast<double>(plan.token_bytes) / 1e6);
  if (left > 0) std::cout << absl::StrFormat("; %d fit", left / plan.token_bytes);
  std::cout << absl::StrFormat("\n  %-48s %9.3f MB", job + ", beside tokens",
                               static_cast<double>(plan.job_bytes) / 1e6);
  if (left > 0) std::cout << absl::StrFormat("; %d fit", left / plan.job_bytes);
  std::cout << "\n";
}

void PrintRow(const std::string& operation, const OperationCount& count, double all_seconds) {
  std::cout << absl::StrFormat("%-30s %7d %10.3f %10.3f %11.3f %6.1f%%\n", operation, count.calls,
                               count.flops / 1e12, Gigabytes(count.bytes), 1000 * count.seconds,
                               100 * count.seconds / all_seconds);
}

void PrintRoofline(const CountedPass& pass, const Card& card) {
  std::cout << absl::StrFormat("\none pass of %d tokens at %g TFLOP/s and %g GB/s\n", pass.tokens,
                               card.matrix_tflops, card.bandwidth_gb);
  std::cout << absl::StrFormat("%-30s %7s %10s %10s %11s %7s\n", "operation", "calls", "TFLOP",
                               "GB", "ms at peak", "share");
  std::vector<std::pair<std::string, OperationCount>> rows(pass.counts.begin(), pass.counts.end());
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
    return a.second.seconds > b.second.seconds;
  });
  for (const auto& [operation, count] : rows) PrintRow(operation, count, pass.sum.seconds);
  PrintRow("sum", pass.sum, pass.sum.seconds);
  std::cout << absl::StrFormat("%.0f tokens/s at these peaks\n",
                               static_cast<double>(pass.tokens) / pass.sum.seconds);
}

void Run(const Settings& settings) {
  const ModelConfig config = ConfigNamed(settings.model, settings.layers);
  const Card card = CardNamed(settings);
  const std::vector<JobShape> jobs = ParseJobs(settings.jobs);
  const MemoryPlan plan =
      PlanMemory(config, jobs, settings.tokens, settings.fp8 ? DType::kF8E4M3 : DType::kBF16);
  std::cout << absl::StrFormat("%s, %d layers, jobs %s, examples of %d tokens, %s\n\n",
                               settings.model, config.num_hidden_layers,
                               absl::StrJoin(settings.jobs, " "), settings.tokens, settings.card);
  PrintMemory(plan, card, settings.card);
  const CountedPass pass =
      CountPass(config, jobs, settings.tokens, settings.dropout,
                {.flops_per_second = 1e12 * card.matrix_tflops,
                 .bytes_per_second = 1e9 * card.bandwidth_gb,
                 .fp8_flops_per_second = settings.fp8 ? 1e12 * card.fp8_tflops : 0});
  CHECK_EQ(pass.allocated_bytes, plan.allocated_bytes()) << "a pass holds another sum than planned";
  PrintRoofline(pass, card);
}

}  // namespace
}  // namespace deltaworks::trainer

int main(int argc, char** argv) {
  deltaworks::trainer::Settings settings;
  CLI::App app("Memory and time at the peaks of training on a card, without one.");
  app.add_option("--model", settings.model, deltaworks::trainer::kModelNames)
      ->capture_default_str();
  app.add_option("--layers", settings.layers, "fewer than the model has");
  app.add_option("--job", settings.jobs, "RANK:EXAMPLES of a step; once for each of the cohort")
      ->capture_default_str();
  app.add_option("--tokens", settings.tokens, "of an example")->capture_default_str();
  app.add_option("--dropout", settings.dropout)->capture_default_str();
  app.add_option("--card", settings.card, "h100 or h200")->capture_default_str();
  app.add_flag("--fp8", settings.fp8, "over a base in fp8: time only, memory is that of bf16");
  app.add_option("--tflops", settings.matrix_tflops, "of bf16 products, instead of the card's");
  app.add_option("--gb-per-second", settings.bandwidth_gb,
                 "read and written, instead of the card's");
  CLI11_PARSE(app, argc, argv);
  deltaworks::trainer::Run(settings);
}

// Runs seeds of the platform's simulation: see README.md. Exits with 1 if one was violated.

#include <cstdint>
#include <iostream>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "services/base/log.h"
#include "tests/simulation/seed_runs.h"

namespace deltaworks::simulation {
namespace {

constexpr char kUsage[] =
    "platform [--seeds=N] [--first_seed=N] [--jobs=N] [--workers=N] [--threads=N] [--seconds=N]\n"
    "platform --seed=N [--jobs=N] [--workers=N]      one seed, with the services' log\n";

struct Flags {
  SeedRunsOptions runs;
  bool one_seed = false;
};

bool Parse(int argc, char** argv, Flags* flags) {
  SeedRunsOptions& runs = flags->runs;
  runs.seeds = 10;
  for (int i = 1; i < argc; ++i) {
    const std::pair<std::string, std::string> flag = absl::StrSplit(argv[i], '=');
    int64_t number = 0;
    if (!absl::SimpleAtoi(flag.second, &number) || number <= 0) return false;
    if (flag.first == "--seeds") {
      runs.seeds = number;
    } else if (flag.first == "--first_seed") {
      runs.world.seed = static_cast<uint64_t>(number);
    } else if (flag.first == "--seed") {
      runs.world.seed = static_cast<uint64_t>(number);
      runs.seeds = 1;
      flags->one_seed = true;
    } else if (flag.first == "--jobs") {
      runs.world.jobs = static_cast<int>(number);
    } else if (flag.first == "--workers") {
      runs.world.workers = static_cast<int>(number);
    } else if (flag.first == "--threads") {
      runs.threads = static_cast<int>(number);
    } else if (flag.first == "--seconds") {
      runs.time_max = absl::Seconds(number);
    } else {
      return false;
    }
  }
  return true;
}

int Main(int argc, char** argv) {
  Flags flags;
  if (!Parse(argc, argv, &flags)) {
    std::cerr << kUsage;
    return 2;
  }
  services::ConfigureLog("simulation",
                         flags.one_seed ? services::LogLevel::kInfo : services::LogLevel::kError);
  if (!flags.one_seed) services::SetLogWriter([](absl::string_view) {});
  constexpr int64_t kProgressEvery = 50;
  const SeedRunsResult result = RunSeeds(flags.runs, [](const SeedRunsResult& so_far) {
    if (so_far.seeds % kProgressEvery != 0) return;
    std::cout << so_far.seeds << " seeds, " << so_far.failures.size() << " failed, "
              << so_far.cpu_s_total / static_cast<double>(so_far.seeds) << " CPU-seconds a seed"
              << std::endl;
  });
  std::cout << result.Text();
  return result.failures.empty() ? 0 : 1;
}

}  // namespace
}  // namespace deltaworks::simulation

int main(int argc, char** argv) { return deltaworks::simulation::Main(argc, argv); }

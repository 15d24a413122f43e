// SeedRuns: many worlds, one for each seed, on a few threads, and what came out of them together.

#ifndef DELTAWORKS_TESTS_SIMULATION_SEED_RUNS_H_
#define DELTAWORKS_TESTS_SIMULATION_SEED_RUNS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/simulation/platform_world.h"

namespace deltaworks::simulation {

struct SeedRunsOptions {
  PlatformOptions world;  // `seed` is the first one.
  int64_t seeds = 1;
  int threads = 1;
  // No seed begins later than this; infinite: all are run.
  absl::Duration time_max = absl::InfiniteDuration();
  // Seeds that may fail before the rest is left out.
  int failures_max = 5;
};

struct SeedRunsResult {
  struct Failure {
    uint64_t seed = 0;
    std::vector<std::string> violations;
  };
  int64_t seeds = 0;
  std::vector<Failure> failures;
  FaultCounts faults;
  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t cancelled = 0;
  int64_t deleted = 0;
  int64_t gangs = 0;  // Granted.
  int64_t events = 0;
  int64_t messages = 0;
  absl::Duration simulated;
  // Of the processor.
  double cpu_s_total = 0;
  double cpu_s_max = 0;

  // For people, of several lines.
  std::string Text() const;
};

// `on_seed` is called after each seed, from one thread at a time; may be null.
SeedRunsResult RunSeeds(const SeedRunsOptions& options,
                        const std::function<void(const SeedRunsResult& so_far)>& on_seed);

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_SEED_RUNS_H_

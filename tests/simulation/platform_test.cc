// Two minutes of seeds of the whole platform, with all faults; see README.md for more of them, and
// for how to replay one. SIMULATION_SECONDS says how long to go on.

#include <cstdlib>
#include <iostream>

#include "absl/strings/numbers.h"
#include "gtest/gtest.h"
#include "services/base/log.h"
#include "tests/simulation/seed_runs.h"

namespace deltaworks::simulation {
namespace {

TEST(PlatformTest, ASeedIsOneStory) {
  services::ConfigureLog("simulation", services::LogLevel::kError);
  services::SetLogWriter([](absl::string_view) {});
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE(seed);
    const PlatformOptions options = {.seed = seed, .jobs = 60, .workers = 8};
    const PlatformResult first = PlatformWorld(options).Run();
    const PlatformResult second = PlatformWorld(options).Run();
    EXPECT_EQ(first.digest, second.digest);
    EXPECT_EQ(first.tasks, second.tasks);
    EXPECT_EQ(first.messages, second.messages);
  }
}

TEST(PlatformTest, WhateverBreaksNothingIsLostAndNothingHappensTwice) {
  services::ConfigureLog("simulation", services::LogLevel::kError);
  services::SetLogWriter([](absl::string_view) {});
  int64_t seconds = 20;
  if (const char* given = std::getenv("SIMULATION_SECONDS")) {
    ASSERT_TRUE(absl::SimpleAtoi(given, &seconds)) << given;
  }
  SeedRunsOptions options;
  options.seeds = 1'000'000;
  options.time_max = absl::Seconds(seconds);
  const SeedRunsResult result = RunSeeds(options, nullptr);
  std::cout << result.Text();
  EXPECT_TRUE(result.failures.empty());
  // The faults must not be so many that nothing is tested.
  EXPECT_GT(result.succeeded, result.seeds * options.world.jobs / 2);
}

}  // namespace
}  // namespace deltaworks::simulation

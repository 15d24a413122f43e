// What the policy promises, on whole traces: nobody waits beyond the bound, and jobs start when it
// was said.

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/simulation/trace_world.h"

namespace deltaworks::simulation {
namespace {

// More than the workers can do, so that jobs wait.
TraceOptions Crowded() {
  TraceOptions options;
  options.jobs = 4'000;
  options.workers = 40;
  options.tenants = 8;
  options.bases = 3;
  options.length = absl::Hours(48);
  options.load = 2;
  options.lost_every = absl::Hours(24 * 365 * 1000);
  options.policy.preemption = false;
  return options;
}

class TraceTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(TraceTest, NobodyWaitsBeyondTheBound) {
  TraceOptions options = Crowded();
  options.seed = GetParam();
  options.policy.max_overtake = absl::Hours(3);
  options.check_bounds = true;
  const TraceResult result = RunTrace(options);
  EXPECT_EQ(result.succeeded, options.jobs);
  EXPECT_GT(result.bounds_checked, 500);
  EXPECT_LE(result.bound_excess_max_seconds, 1);
}

TEST_P(TraceTest, JobsThatDoNotShareStartAndEndWhenTheForecastSaid) {
  TraceOptions options = Crowded();
  options.seed = GetParam();
  options.one_tenant = true;
  options.policy.attempts_per_worker = 1;
  options.forecasts = 100;
  const TraceResult result = RunTrace(options);
  EXPECT_GT(result.forecasts, 50);
  EXPECT_LE(result.start_error_p90, 0.001);
  EXPECT_LE(result.end_error_p90, 0.001);
}

INSTANTIATE_TEST_SUITE_P(Seeds, TraceTest, ::testing::Values(1, 2, 3));

}  // namespace
}  // namespace deltaworks::simulation

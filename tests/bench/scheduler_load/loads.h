// The three measurements of the scheduler's process. Each starts one on a fresh database, brings
// its load to it from the calling thread, and returns what it measured as one line of JSON. Times
// are in seconds, rates by second, processor time in cores; fsync_seconds is the mean over a small
// append with fdatasync in the same folder, before and after the load.

#ifndef DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_LOADS_H_
#define DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_LOADS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "tests/bench/scheduler_load/scheduler_under_test.h"

namespace deltaworks::bench {

struct LoadOptions {
  SchedulerUnderTest::Options scheduler;
  // How long the disk alone is measured, before and after.
  absl::Duration fsync_duration = absl::Seconds(1);
  absl::Duration duration = absl::Seconds(10);
};

// `clients` submit jobs, each on a connection of its own, the next as soon as one is accepted.
std::string MeasureSubmits(const LoadOptions& options, int64_t clients);

// `jobs` one after the other are submitted to an idle worker whose report is held: from the request
// to the answer that assigns the job. The worker begins each; then it is cancelled, and leaves.
std::string MeasureAssignments(const LoadOptions& options, int64_t jobs);

struct FleetOptions {
  int64_t workers = 10'000;
  int64_t channels = 64;
  // Between two checkpoints of a worker.
  absl::Duration checkpoint_interval = absl::Seconds(60);
  // For all workers to get their job. What is there then is measured.
  absl::Duration ramp_max = absl::Minutes(10);
};

// `workers` that each train one job and hold a report, as services/worker does: the next follows an
// answer at once, and one with a new checkpoint takes the place of the one that is held.
std::string MeasureFleet(const LoadOptions& options, const FleetOptions& fleet);

}  // namespace deltaworks::bench

#endif  // DELTAWORKS_TESTS_BENCH_SCHEDULER_LOAD_LOADS_H_

// TraceWorld: a week of jobs on many workers, driven through the scheduler's core by what happens
// to them: submitted, granted, finished, told to leave, lost. Nothing in between: no report says
// only that all is well, and leases never end by themselves. So a week takes minutes, and all of
// them are the scheduler's.
//
// A worker trains its jobs in common passes; a pass over T tokens takes pass_seconds * (h + T) / h
// of its base's, with h the overhead that the scheduler assumes too. Everything comes from one
// seed.

#ifndef DELTAWORKS_TESTS_SIMULATION_TRACE_WORLD_H_
#define DELTAWORKS_TESTS_SIMULATION_TRACE_WORLD_H_

#include <cstdint>
#include <map>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "scheduler/scheduler.h"

namespace deltaworks::simulation {

struct TraceOptions {
  int64_t jobs = 1'000'000;
  int64_t workers = 10'000;
  int64_t tenants = 50;
  int64_t bases = 8;
  absl::Duration length = absl::Hours(7 * 24);
  // Work submitted over what the workers could do alone, one job each.
  double load = 1.05;
  // A worker is lost so often.
  absl::Duration lost_every = absl::Hours(30 * 24);
  uint64_t seed = 1;
  scheduler::Options policy;
  // All jobs under one tenant to the scheduler: nobody's share is heeded.
  bool one_tenant = false;
  // Compares each wait with its bound; takes the square of the number of jobs.
  bool check_bounds = false;
  // Jobs that wait when the last one was submitted, and are asked when they will start.
  int64_t forecasts = 0;
};

struct TraceResult {
  int64_t submitted = 0, succeeded = 0, failed = 0, grants = 0, preemptions = 0, lost = 0;
  int64_t shared_grants = 0;
  // Of the workers' time, until the last job was submitted.
  double utilisation = 0;
  // Work done until then, over that of all workers alone and busy: above 1 where cohorts pay.
  double throughput = 0;
  // Of 1 / slow-down by tenant, where slow-down is (wait + run) / run alone.
  double jain = 0;
  double slowdown_mean = 0;
  // By class LOW, NORMAL, HIGH: seconds from the submission to the first grant.
  double wait_mean[3] = {}, wait_p99[3] = {}, wait_max[3] = {};
  // Until the last job ended, in seconds of the trace.
  double makespan_seconds = 0;
  // What the scheduler's core took.
  double core_seconds = 0;
  double plan_p50_ms = 0, plan_p99_ms = 0, plan_max_ms = 0;
  // Of one job's turn at the core (all of its events), mean.
  double event_us = 0;
  // Jobs that were overdue before they started, and by how much the worst of them passed its bound
  // of PROTOCOL.md 9, evaluated on the trace; below 0: none did.
  int64_t bounds_checked = 0;
  double bound_excess_max_seconds = -1e18;
  // |actual - told| / told, of starts and of ends, counted from when they were told.
  int64_t forecasts = 0;
  double forecast_ms = 0;  // For one, mean.
  double start_error_p50 = 0, start_error_p90 = 0, end_error_p50 = 0, end_error_p90 = 0;
  int64_t events = 0, queue_max = 0;
  int64_t memory_bytes = 0;
};

TraceResult RunTrace(const TraceOptions& options);

// Of a queue as long as it gets.
struct QueueResult {
  int64_t queued = 0, shapes = 0;
  // Heap that the core has for it, over the jobs.
  int64_t bytes_a_job = 0;
  // Then, until the asked-for number of jobs ended, of each plan.
  int64_t grants = 0;
  double plan_p50_ms = 0, plan_p99_ms = 0, plan_max_ms = 0;
};

// The trace's jobs until the last one is submitted, and on until `ends` more ended.
QueueResult RunQueue(const TraceOptions& options, int64_t ends);

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_TRACE_WORLD_H_

// A week's trace through the scheduler's core: see trace_world.h and README.md. One line of JSON.

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "tests/simulation/trace_world.h"

namespace deltaworks::simulation {
namespace {

constexpr char kUsage[] =
    "trace [--policy=fair|fifo|priority] [--jobs=N] [--workers=N] [--hours=N] [--load=X] "
    "[--seed=N] [--queue]\n";

// FIFO and plain priority are the same core without cohorts, shares, ageing and preemption.
bool SetPolicy(const std::string& name, TraceOptions* options) {
  if (name == "fair") return true;
  if (name != "fifo" && name != "priority") return false;
  options->one_tenant = true;
  options->policy.attempts_per_worker = 1;
  options->policy.preemption = false;
  options->policy.max_overtake = absl::InfiniteDuration();
  const bool priority = name == "priority";
  options->policy.bonus_normal = absl::Hours(priority ? 100'000 : 0);
  options->policy.bonus_high = absl::Hours(priority ? 200'000 : 0);
  return true;
}

bool Parse(int argc, char** argv, std::string* policy, TraceOptions* options, bool* queue) {
  for (int i = 1; i < argc; ++i) {
    const std::pair<std::string, std::string> flag = absl::StrSplit(argv[i], '=');
    int64_t number = 0;
    const bool is_number = absl::SimpleAtoi(flag.second, &number) && number > 0;
    if (flag.first == "--queue") {
      *queue = true;
    } else if (flag.first == "--policy") {
      *policy = flag.second;
    } else if (flag.first == "--load" && absl::SimpleAtod(flag.second, &options->load)) {
    } else if (!is_number) {
      return false;
    } else if (flag.first == "--jobs") {
      options->jobs = number;
    } else if (flag.first == "--workers") {
      options->workers = number;
    } else if (flag.first == "--hours") {
      options->length = absl::Hours(number);
    } else if (flag.first == "--seed") {
      options->seed = static_cast<uint64_t>(number);
    } else {
      return false;
    }
  }
  return SetPolicy(*policy, options);
}

void Print(const std::string& policy, const TraceResult& r) {
  std::cout << absl::StrFormat(
      "{\"policy\": \"%s\", \"succeeded\": %d, \"failed\": %d, \"grants\": %d, "
      "\"shared_grants\": %d, \"preemptions\": %d, \"lost\": %d, \"utilisation\": %.3f, "
      "\"throughput\": %.3f, \"jain\": %.3f, \"slowdown_mean\": %.2f, \"makespan_hours\": %.1f, ",
      policy, r.succeeded, r.failed, r.grants, r.shared_grants, r.preemptions, r.lost,
      r.utilisation, r.throughput, r.jain, r.slowdown_mean, r.makespan_seconds / 3600);
  const char* const classes[] = {"low", "normal", "high"};
  for (int c = 0; c < 3; ++c) {
    std::cout << absl::StrFormat("\"wait_%s_s\": {\"mean\": %.0f, \"p99\": %.0f, \"max\": %.0f}, ",
                                 classes[c], r.wait_mean[c], r.wait_p99[c], r.wait_max[c]);
  }
  std::cout << absl::StrFormat(
      "\"forecasts\": {\"asked\": %d, \"ms\": %.2f, \"start_error_p50\": %.3f, "
      "\"start_error_p90\": %.3f, \"end_error_p50\": %.3f, \"end_error_p90\": %.3f}, "
      "\"queue_max\": %d, \"events\": %d, \"core_seconds\": %.1f, \"event_us\": %.1f, "
      "\"plan_ms\": {\"p50\": %.3f, \"p99\": %.3f, \"max\": %.2f}, \"memory_mib\": %d}\n",
      r.forecasts, r.forecast_ms, r.start_error_p50, r.start_error_p90, r.end_error_p50,
      r.end_error_p90, r.queue_max, r.events, r.core_seconds, r.event_us, r.plan_p50_ms,
      r.plan_p99_ms, r.plan_max_ms, r.memory_bytes >> 20);
}

// All jobs come within an hour, with the work of many: what plans take at that length of the queue,
// and at a fourth and a sixteenth of it.
void PrintQueues(TraceOptions options) {
  constexpr int64_t kEnds = 2'000;
  const int64_t most = options.jobs;
  const double hours = absl::FDivDuration(options.length, absl::Hours(1));
  options.length = absl::Hours(1);
  options.forecasts = 0;
  for (int64_t share = 16; share >= 1; share /= 4) {
    options.jobs = std::max<int64_t>(1, most / share);
    options.load = hours / static_cast<double>(share);
    const QueueResult r = RunQueue(options, std::min(kEnds, options.jobs / 2));
    std::cout << absl::StrFormat(
                     "{\"queued\": %d, \"shapes\": %d, \"bytes_a_job\": %d, \"grants\": %d, "
                     "\"plan_ms\": {\"p50\": %.3f, \"p99\": %.3f, \"max\": %.2f}}\n",
                     r.queued, r.shapes, r.bytes_a_job, r.grants, r.plan_p50_ms, r.plan_p99_ms,
                     r.plan_max_ms)
              << std::flush;
  }
}

}  // namespace
}  // namespace deltaworks::simulation

int main(int argc, char** argv) {
  std::string policy = "fair";
  deltaworks::simulation::TraceOptions options;
  options.forecasts = 100;
  bool queue = false;
  if (!deltaworks::simulation::Parse(argc, argv, &policy, &options, &queue)) {
    std::cerr << deltaworks::simulation::kUsage;
    return 2;
  }
  if (queue) {
    deltaworks::simulation::PrintQueues(options);
    return 0;
  }
  deltaworks::simulation::Print(policy, deltaworks::simulation::RunTrace(options));
  return 0;
}

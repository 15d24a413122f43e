#include "tests/simulation/seed_runs.h"

#include <time.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "trainer/base/mutex.h"

namespace deltaworks::simulation {
namespace {

double ThreadCpuSeconds() {
  timespec now;
  CHECK_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
  return absl::ToDoubleSeconds(absl::DurationFromTimespec(now));
}

class Runner {
 public:
  Runner(const SeedRunsOptions& options, const std::function<void(const SeedRunsResult&)>& on_seed)
      : options_(options), on_seed_(on_seed), begin_(absl::Now()) {}

  SeedRunsResult Run() {
    std::vector<std::thread> threads;
    for (int i = 1; i < options_.threads; ++i) threads.emplace_back([this] { Work(); });
    Work();
    for (std::thread& thread : threads) thread.join();
    MutexLock lock(&mutex_);
    return result_;
  }

 private:
  void Work() {
    PlatformOptions world = options_.world;
    while (TakeSeed(world.seed)) {
      const double begin_s = ThreadCpuSeconds();
      const PlatformResult result = PlatformWorld(world).Run();
      Add(world.seed, result, ThreadCpuSeconds() - begin_s);
    }
  }

  bool TakeSeed(uint64_t& seed) {
    MutexLock lock(&mutex_);
    if (taken_ == options_.seeds || absl::Now() - begin_ >= options_.time_max ||
        static_cast<int>(result_.failures.size()) >= options_.failures_max) {
      return false;
    }
    seed = options_.world.seed + static_cast<uint64_t>(taken_++);
    return true;
  }

  void Add(uint64_t seed, const PlatformResult& run, double cpu_s) {
    MutexLock lock(&mutex_);
    ++result_.seeds;
    if (!run.violations.empty()) result_.failures.push_back({seed, run.violations});
    result_.faults.Add(run.faults);
    result_.succeeded += run.succeeded;
    result_.failed += run.failed;
    result_.cancelled += run.cancelled;
    result_.deleted += run.deleted;
    result_.gangs += run.gangs;
    result_.events += run.events;
    result_.messages += run.messages;
    result_.simulated += run.simulated;
    result_.cpu_s_total += cpu_s;
    result_.cpu_s_max = std::max(result_.cpu_s_max, cpu_s);
    if (on_seed_) on_seed_(result_);
  }

  const SeedRunsOptions options_;
  const std::function<void(const SeedRunsResult&)>& on_seed_;
  const absl::Time begin_;
  Mutex mutex_;
  int64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  SeedRunsResult result_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::string SeedRunsResult::Text() const {
  const auto by_seed = [this](int64_t count) {
    return static_cast<double>(count) / static_cast<double>(std::max<int64_t>(seeds, 1));
  };
  std::string text = absl::StrFormat(
      "%d seeds, %d failed; CPU-seconds a seed: %.2f (mean), %.2f (max)\n"
      "by seed: %.0f jobs succeeded, %.0f failed, %.0f cancelled, %.0f deleted; %.0f gangs, %.0f "
      "events, %.0f "
      "messages, "
      "%.1f hours\nfaults:\n",
      seeds, failures.size(), cpu_s_total / static_cast<double>(std::max<int64_t>(seeds, 1)),
      cpu_s_max, by_seed(succeeded), by_seed(failed), by_seed(cancelled), by_seed(deleted),
      by_seed(gangs), by_seed(events), by_seed(messages),
      absl::ToDoubleHours(simulated) / static_cast<double>(std::max<int64_t>(seeds, 1)));
  for (const auto& [fault, count] : faults.counts()) {
    absl::StrAppendFormat(&text, "  %-32s %d\n", fault, count);
  }
  for (const Failure& failure : failures) {
    absl::StrAppend(&text, "SEED ", failure.seed, ":\n");
    for (const std::string& violation : failure.violations) {
      absl::StrAppend(&text, "  ", violation, "\n");
    }
  }
  return text;
}

SeedRunsResult RunSeeds(const SeedRunsOptions& options,
                        const std::function<void(const SeedRunsResult& so_far)>& on_seed) {
  return Runner(options, on_seed).Run();
}

}  // namespace deltaworks::simulation

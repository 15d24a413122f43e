#include "scheduler/work.h"

#include <algorithm>
#include <cmath>

#include "scheduler/job_record.h"

namespace deltaworks::scheduler {
namespace {

constexpr double kMax = 1e12;
constexpr int64_t kMinute = 60;
constexpr int64_t kHour = 3600;

int64_t Bounded(double value) { return static_cast<int64_t>(std::min(value, kMax)); }

// The largest multiple of `unit` that is not above.
int64_t Floor(int64_t second, int64_t unit) {
  const int64_t rest = second % unit;
  return second - (rest < 0 ? rest + unit : rest);
}

}  // namespace

Work& Work::operator+=(const Work& other) {
  passes += other.passes;
  tokens += other.tokens;
  gigaflops += other.gigaflops;
  return *this;
}

Work& Work::operator-=(const Work& other) {
  passes -= other.passes;
  tokens -= other.tokens;
  gigaflops -= other.gigaflops;
  return *this;
}

Work RemainingWork(const JobRecord& record) {
  const double steps = RemainingSteps(record);
  const double tokens = StepTokens(record);
  const auto rows = static_cast<double>(record.job().train().micro_batch_tokens());
  return {.passes = Bounded(steps * (rows > 0 ? std::ceil(tokens / rows) : 1)),
          .tokens = Bounded(steps * tokens),
          .gigaflops = Bounded(std::ceil(RemainingFlops(record) / 1e9))};
}

void RankSums::Add(absl::Time rank, const Work& work) { Change(rank, work, 1); }

void RankSums::Remove(absl::Time rank, const Work& work) { Change(rank, work, -1); }

void RankSums::Change(absl::Time rank, const Work& work, int sign) {
  const int64_t second = absl::ToUnixSeconds(rank);
  const auto change = [&](Sum* sum) {
    sum->jobs += sign;
    if (sign > 0) {
      sum->work += work;
    } else {
      sum->work -= work;
    }
  };
  const auto change_in = [&](int64_t begin, Sums* sums) {
    const auto at = sums->try_emplace(begin).first;
    change(&at->second);
    if (at->second.jobs == 0) sums->erase(at);
  };
  change(&total_);
  change_in(Floor(second, kHour), &hours_);
  change_in(Floor(second, kMinute), &minutes_);
  change_in(second, &seconds_);
}

RankSums::Sum RankSums::UpTo(int64_t second) const {
  if (seconds_.empty() || seconds_.rbegin()->first < second) return total_;
  Sum sum;
  const auto add = [&](const Sums& sums, int64_t begin, int64_t end) {
    for (auto at = sums.lower_bound(begin); at != sums.end() && at->first < end; ++at) {
      sum.jobs += at->second.jobs;
      sum.work += at->second.work;
    }
  };
  const int64_t hour = Floor(second, kHour);
  const int64_t minute = Floor(second, kMinute);
  if (!hours_.empty()) add(hours_, hours_.begin()->first, hour);
  add(minutes_, hour, minute);
  add(seconds_, minute, second);
  return sum;
}

RankSums::Sum RankSums::Before(absl::Time rank) const { return UpTo(absl::ToUnixSeconds(rank)); }

RankSums::Sum RankSums::Through(absl::Time rank) const {
  return UpTo(absl::ToUnixSeconds(rank) + 1);
}

}  // namespace deltaworks::scheduler

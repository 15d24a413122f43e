// Sums by rank against counting; what is left of a job.

#include "scheduler/work.h"

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace deltaworks::scheduler {
namespace {

TEST(RankSumsTest, SaysWhatCountingSays) {
  std::mt19937_64 random(7);
  RankSums sums;
  std::vector<std::pair<absl::Time, Work>> all;
  const auto count = [&](absl::Time end) {
    RankSums::Sum sum;
    for (const auto& [rank, work] : all) {
      if (absl::ToUnixSeconds(rank) >= absl::ToUnixSeconds(end)) continue;
      ++sum.jobs;
      sum.work += work;
    }
    return sum;
  };
  for (int i = 0; i < 3'000; ++i) {
    // Around 1970, so that ranks before it occur; crowded and sparse stretches.
    const int64_t spread = i % 2 == 0 ? 200 : 400'000;
    const auto draw = [&] {
      return absl::UnixEpoch() +
             absl::Milliseconds(static_cast<int64_t>(random() % spread) * 1000 - spread * 500 + 7);
    };
    if (!all.empty() && random() % 3 == 0) {
      const size_t at = random() % all.size();
      sums.Remove(all[at].first, all[at].second);
      all.erase(all.begin() + static_cast<int64_t>(at));
    } else {
      const auto small = [&] { return static_cast<int64_t>(random() % 100); };
      all.emplace_back(draw(), Work{.passes = small(), .tokens = small(), .gigaflops = small()});
      sums.Add(all.back().first, all.back().second);
    }
    const absl::Time rank = all.empty() || i % 3 == 0 ? draw() : all[random() % all.size()].first;
    ASSERT_EQ(sums.Before(rank).jobs, count(rank).jobs);
    ASSERT_EQ(sums.Before(rank).work, count(rank).work);
    ASSERT_EQ(sums.Through(rank).jobs, count(rank + absl::Seconds(1)).jobs);
    ASSERT_EQ(sums.Through(rank).work, count(rank + absl::Seconds(1)).work);
    ASSERT_EQ(sums.total().jobs, static_cast<int64_t>(all.size()));
  }
}

TEST(RemainingWorkTest, CountsStepsTokensAndPassesOfWhatIsLeft) {
  JobRecord record;
  v1::JobStatus& status = *record.mutable_job()->mutable_status();
  EXPECT_EQ(RemainingWork(record), Work());
  status.mutable_progress()->set_total_steps(100);
  status.mutable_progress()->set_step(40);
  status.mutable_facts()->set_step_tokens(500);
  status.mutable_facts()->set_total_parameters(1'000'000);
  status.mutable_facts()->set_trainable_parameters(1'000);
  // 60 steps of 500 tokens, of 4 FLOPs for each frozen parameter and 6 for each trained one.
  EXPECT_EQ(RemainingWork(record), (Work{.passes = 60, .tokens = 30'000, .gigaflops = 121}));
  record.mutable_job()->mutable_train()->set_micro_batch_tokens(200);
  EXPECT_EQ(RemainingWork(record).passes, 180);
  status.mutable_progress()->set_step(101);
  EXPECT_EQ(RemainingWork(record), Work());
}

TEST(RemainingWorkTest, NumbersFromOutsideStaySmallEnoughToAddUp) {
  JobRecord record;
  v1::JobStatus& status = *record.mutable_job()->mutable_status();
  status.mutable_progress()->set_total_steps(int64_t{1} << 62);
  status.mutable_facts()->set_step_tokens(int64_t{1} << 62);
  status.mutable_facts()->set_total_parameters(int64_t{1} << 62);
  const int64_t most = 1'000'000'000'000;
  EXPECT_EQ(RemainingWork(record), (Work{.passes = most, .tokens = most, .gigaflops = most}));
}

}  // namespace
}  // namespace deltaworks::scheduler

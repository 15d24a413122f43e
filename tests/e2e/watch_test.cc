// Watches that are cut again and again, by their reader and by kill -9 of the scheduler: every
// event and every metric point comes once and in order, and the last state of every job arrives.

#include <algorithm>
#include <atomic>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "services/clients/grpc_training_client.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/workload.h"

namespace deltaworks::e2e {
namespace {

constexpr uint32_t kSeed = 20240611;
constexpr int kKills = 6;
constexpr int64_t kSteps = 500;

// What a reader saw that lost its connection whenever it could.
struct Seen {
  std::vector<v1::JobEvent> events;
  std::vector<int64_t> metric_steps;
  int streams = 0;
  std::string wrong;  // Empty: all well.
};

// Watches until the job is final. Cuts each stream itself after a few responses.
Seen WatchWithCuts(services::TrainingClient& client, const std::string& name, uint32_t seed) {
  Seen seen;
  std::mt19937 random(seed);
  const absl::Time end = absl::Now() + absl::Minutes(2);
  while (absl::Now() < end) {
    v1::WatchJobRequest request;
    request.set_name(name);
    request.set_since_seq(static_cast<int64_t>(seen.events.size()));
    request.set_since_metric(static_cast<int64_t>(seen.metric_steps.size()));
    int left = 1 + static_cast<int>(random() % 4);
    ++seen.streams;
    const absl::Status status =
        client.WatchJob(request, [&](const v1::WatchJobResponse& response) -> absl::Status {
          for (const v1::JobEvent& event : response.events()) {
            if (event.seq() != static_cast<int64_t>(seen.events.size()) + 1) {
              return absl::DataLossError(
                  absl::StrCat("event ", event.seq(), " after ", seen.events.size(), " events"));
            }
            seen.events.push_back(event);
          }
          if (response.metrics_size() > 0 &&
              response.first_metric() != static_cast<int64_t>(seen.metric_steps.size()) + 1) {
            return absl::DataLossError(absl::StrCat("metric ", response.first_metric(), " after ",
                                                    seen.metric_steps.size(), " points"));
          }
          for (const v1::MetricPoint& point : response.metrics()) {
            seen.metric_steps.push_back(point.step());
          }
          return --left == 0 ? absl::CancelledError("cut by the reader") : absl::OkStatus();
        });
    if (status.ok()) return seen;
    if (!absl::IsCancelled(status) && !absl::IsUnavailable(status)) {
      seen.wrong = status.ToString();
      return seen;
    }
    if (absl::IsUnavailable(status)) absl::SleepFor(absl::Milliseconds(5));
  }
  seen.wrong = "no end within two minutes";
  return seen;
}

TEST(WatchTest, MissesAndRepeatsNothingThroughCutsAndKills) {
  SCOPED_TRACE(absl::StrCat("seed ", kSeed));
  Platform platform;
  ImportBase(platform);
  AddDataset(platform, "pairs", 200, 1);
  const std::string name = Submit(platform, JobRequest("watched", kSteps)).name();

  Seen seen;
  const auto client = services::MakeGrpcTrainingClient(
      platform.NewChannel(platform.scheduler(), platform.token(kAcme)));
  std::thread reader([&] { seen = WatchWithCuts(*client, name, kSeed); });
  std::mt19937 random(kSeed);
  for (int kill = 0; kill < kKills && !IsFinal(GetJob(platform, name).status().state()); ++kill) {
    absl::SleepFor(absl::Milliseconds(100 + random() % 700));
    platform.scheduler().KillAndStart();
  }
  const v1::Job job = AwaitEnd(platform, name);
  reader.join();

  ASSERT_EQ(job.status().state(), v1::SUCCEEDED) << Describe(job);
  ASSERT_EQ(seen.wrong, "");
  EXPECT_GT(seen.streams, kKills);
  ASSERT_EQ(static_cast<int64_t>(seen.events.size()), job.status().last_event_seq());
  EXPECT_EQ(seen.events.back().state(), v1::SUCCEEDED);
  ASSERT_EQ(static_cast<int64_t>(seen.metric_steps.size()), kSteps);
  EXPECT_TRUE(std::is_sorted(seen.metric_steps.begin(), seen.metric_steps.end()));
  EXPECT_EQ(std::adjacent_find(seen.metric_steps.begin(), seen.metric_steps.end()),
            seen.metric_steps.end());

  // What was watched is what is kept.
  v1::ListJobEventsRequest list;
  list.set_parent(name);
  list.set_page_size(1000);
  const v1::ListJobEventsResponse kept = Must(platform.training_of().ListJobEvents(list));
  ASSERT_EQ(kept.job_events_size(), static_cast<int>(seen.events.size()));
  for (int i = 0; i < kept.job_events_size(); ++i) {
    EXPECT_EQ(kept.job_events(i).SerializeAsString(),
              seen.events[static_cast<size_t>(i)].SerializeAsString());
  }
  std::cout << seen.streams << " streams, " << seen.events.size() << " events\n";
}

TEST(WatchTest, AListOfJobsIsFollowedToTheEndThroughKills) {
  Platform platform;
  ImportBase(platform);
  AddDataset(platform, "pairs", 50, 1);
  constexpr int kJobs = 4;

  std::map<std::string, v1::JobState> last;
  std::string wrong;
  std::atomic<bool> synced = false;
  const auto client = services::MakeGrpcTrainingClient(
      platform.NewChannel(platform.scheduler(), platform.token(kAcme)));
  std::thread reader([&] {
    v1::WatchJobsRequest request;
    request.set_parent(Parent());
    const absl::Time end = absl::Now() + absl::Minutes(1);
    const auto all_done = [&] {
      int done = 0;
      for (const auto& [name, state] : last) done += state == v1::SUCCEEDED ? 1 : 0;
      return done == kJobs;
    };
    while (!all_done() && absl::Now() < end) {
      const absl::Status status =
          client->WatchJobs(request, [&](const v1::WatchJobsResponse& response) -> absl::Status {
            for (const v1::Job& job : response.jobs()) last[job.name()] = job.status().state();
            if (!response.resume_token().empty()) {
              request.set_resume_token(response.resume_token());
            }
            synced = synced || response.synced();
            return all_done() ? absl::CancelledError("enough") : absl::OkStatus();
          });
      if (absl::IsOutOfRange(status)) request.clear_resume_token();
      if (!absl::IsOutOfRange(status) && !absl::IsUnavailable(status) &&
          !absl::IsCancelled(status)) {
        wrong = status.ToString();
        return;
      }
    }
    if (!all_done()) wrong = "not all jobs were seen SUCCEEDED";
  });
  for (int i = 1; i <= kJobs; ++i) {
    Submit(platform, JobRequest(absl::StrCat("job-", i), 40));
    platform.scheduler().KillAndStart();
  }
  reader.join();
  EXPECT_EQ(wrong, "");
  EXPECT_TRUE(synced);
  EXPECT_EQ(last.size(), static_cast<size_t>(kJobs));
}

}  // namespace
}  // namespace deltaworks::e2e

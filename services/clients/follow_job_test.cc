#include "services/clients/follow_job.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/clients/fake_training_client.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::WatchJobResponse Events(std::initializer_list<int64_t> seqs, int64_t first_metric = 0,
                            int metrics = 0) {
  v1::WatchJobResponse response;
  for (const int64_t seq : seqs) response.add_events()->set_seq(seq);
  response.set_first_metric(first_metric);
  for (int i = 0; i < metrics; ++i) response.add_metrics()->set_step(first_metric + i);
  return response;
}

class FollowJobTest : public ::testing::Test {
 protected:
  FollowJobTest() {
    policy_.sleep = [this](absl::Duration wait) { now_ += wait; };
    policy_.monotonic = [this] { return now_; };
    request_.set_name("tenants/t/jobs/j");
  }
  absl::Status Follow() {
    return FollowJob(client_, request_, policy_, [this](const v1::WatchJobResponse& response) {
      for (const auto& event : response.events()) seqs_.push_back(event.seq());
      for (const auto& point : response.metrics()) steps_.push_back(point.step());
      return sink_status_;
    });
  }
  FakeTrainingClient client_;
  RetryPolicy policy_;
  v1::WatchJobRequest request_;
  absl::Duration now_ = absl::ZeroDuration();
  std::vector<int64_t> seqs_;
  std::vector<int64_t> steps_;
  absl::Status sink_status_;
};

TEST_F(FollowJobTest, ACutWatchGoesOnAfterTheLastNumbers) {
  client_.watches.push_back(
      {{Events({1, 2}, 1, 3), Events({3})}, absl::UnavailableError("restarted")});
  client_.watches.push_back({{}, absl::ResourceExhaustedError("too slow")});
  client_.watches.push_back({{Events({4}, 4, 1)}, absl::OkStatus()});
  ASSERT_TRUE(Follow().ok());
  EXPECT_THAT(seqs_, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(steps_, ElementsAre(1, 2, 3, 4));
  ASSERT_EQ(client_.watch_requests.size(), 3u);
  EXPECT_EQ(client_.watch_requests[2].since_seq(), 3);
  EXPECT_EQ(client_.watch_requests[2].since_metric(), 3);
}

TEST_F(FollowJobTest, AGapIsNotPassedOver) {
  client_.watches.push_back({{Events({1, 3})}, absl::OkStatus()});
  const absl::Status status = Follow();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("event 3 came, want 2"));
}

TEST_F(FollowJobTest, ASchedulerThatStaysAwayEndsItInBoundedTime) {
  EXPECT_TRUE(absl::IsUnavailable(Follow()));
  EXPECT_LE(now_, policy_.total_max);
}

TEST_F(FollowJobTest, HowLongAJobWasSilentDoesNotCount) {
  for (int i = 0; i < 3; ++i) {
    client_.watches.push_back(
        {{Events({})}, absl::UnavailableError("restarted"), [this] { now_ += absl::Hours(9); }});
  }
  client_.watches.push_back({{Events({1})}, absl::OkStatus()});
  EXPECT_TRUE(Follow().ok());
  EXPECT_THAT(seqs_, ElementsAre(1));
}

TEST_F(FollowJobTest, TheSinksErrorIsFinal) {
  sink_status_ = absl::UnavailableError("the terminal is gone");
  client_.watches.push_back({{Events({1})}, absl::OkStatus()});
  EXPECT_EQ(Follow(), sink_status_);
  EXPECT_EQ(client_.watch_requests.size(), 1u);
}

TEST_F(FollowJobTest, OtherErrorsAreFinal) {
  client_.watches.push_back({{}, absl::NotFoundError("no such job")});
  EXPECT_TRUE(absl::IsNotFound(Follow()));
}

}  // namespace
}  // namespace deltaworks::services

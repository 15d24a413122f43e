#include "services/clients/retry.h"

#include <vector>

#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

class RetryTest : public ::testing::Test {
 protected:
  RetryTest() {
    policy_.sleep = [this](absl::Duration wait) {
      waits_.push_back(wait);
      now_ += wait;
    };
    policy_.monotonic = [this] { return now_; };
  }
  absl::Status Call(std::vector<absl::Status> answers) {
    return CallWithRetry(policy_, [&] {
      const size_t index = std::min<size_t>(calls_++, answers.size() - 1);
      return answers[index];
    });
  }
  RetryPolicy policy_;
  absl::Duration now_ = absl::Seconds(7);
  std::vector<absl::Duration> waits_;
  size_t calls_ = 0;
};

TEST_F(RetryTest, UnavailableIsRepeatedUntilItPasses) {
  EXPECT_TRUE(
      Call({absl::UnavailableError("a"), absl::UnavailableError("b"), absl::OkStatus()}).ok());
  EXPECT_EQ(calls_, 3u);
}

TEST_F(RetryTest, AnyOtherErrorIsFinal) {
  EXPECT_TRUE(absl::IsNotFound(Call({absl::NotFoundError("x")})));
  EXPECT_TRUE(absl::IsDeadlineExceeded(Call({absl::DeadlineExceededError("x")})));
  EXPECT_EQ(calls_, 2u);
}

TEST_F(RetryTest, WaitsGrowToTheirBoundAndEndInTime) {
  EXPECT_TRUE(absl::IsUnavailable(Call({absl::UnavailableError("down")})));
  ASSERT_GT(waits_.size(), 10u);
  EXPECT_LE(waits_.front(), absl::Milliseconds(50));
  for (const absl::Duration wait : waits_) EXPECT_LE(wait, absl::Seconds(2));
  EXPECT_GE(waits_.back(), absl::Seconds(1.6));
  EXPECT_LE(now_, absl::Seconds(37));
  EXPECT_GE(now_, absl::Seconds(35 - 2));
}

TEST_F(RetryTest, ZeroTimeMeansOneCall) {
  policy_.total_max = absl::ZeroDuration();
  EXPECT_TRUE(absl::IsUnavailable(Call({absl::UnavailableError("down"), absl::OkStatus()})));
  EXPECT_EQ(calls_, 1u);
}

TEST_F(RetryTest, ProgressBeginsTheWaitsAnew) {
  RetryState state(policy_);
  while (state.Pause()) {
  }
  const absl::Duration longest = waits_.back();
  state.Progressed();
  ASSERT_TRUE(state.Pause());
  EXPECT_LT(waits_.back(), longest);
}

}  // namespace
}  // namespace deltaworks::services

// A restart policy is right if a broken process costs little, a healthy one that dies once is back
// at once, and one with wrong settings is left alone.

#include "services/cli/local/restart_policy.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;

constexpr ProcessExit kCrashed = {.signal = 11};
constexpr ProcessExit kCannotStart = {.code = 3};
constexpr ProcessExit kWrongSettings = {.code = 2};
constexpr absl::Duration kStart = absl::Seconds(1000);

TEST(RestartPolicyTest, DelaysDoubleFromTheSmallestToTheLargest) {
  RestartPolicy policy({});
  absl::Duration now = kStart;
  std::vector<double> delays;
  for (int i = 0; i < 8; ++i) {
    policy.Started(now);
    const auto delay = policy.Ended(kCannotStart, now);
    ASSERT_TRUE(delay.has_value());
    delays.push_back(absl::ToDoubleSeconds(*delay));
    now += *delay;
  }
  EXPECT_THAT(delays, ElementsAre(0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10));
}

TEST(RestartPolicyTest, AProcessThatLivedLongEnoughBeginsAnew) {
  RestartPolicy policy({});
  policy.Started(kStart);
  EXPECT_EQ(policy.Ended(kCrashed, kStart), absl::Milliseconds(200));
  policy.Started(kStart);
  EXPECT_EQ(policy.Ended(kCrashed, kStart + absl::Seconds(30) - absl::Nanoseconds(1)),
            absl::Milliseconds(400));
  policy.Started(kStart);
  EXPECT_EQ(policy.Ended(kCrashed, kStart + absl::Seconds(30)), absl::Milliseconds(200));
}

TEST(RestartPolicyTest, WrongSettingsAreNotTriedAgain) {
  RestartPolicy policy({});
  policy.Started(kStart);
  EXPECT_EQ(policy.Ended(kWrongSettings, kStart + absl::Hours(1)), std::nullopt);
}

TEST(RestartPolicyTest, AProcessThatEndsWithoutBeingToldIsStartedAgain) {
  RestartPolicy policy({});
  policy.Started(kStart);
  EXPECT_EQ(policy.Ended({.code = 0}, kStart), absl::Milliseconds(200));
  // Signal 2 is no exit code 2.
  policy.Started(kStart);
  EXPECT_TRUE(policy.Ended({.signal = 2}, kStart).has_value());
}

}  // namespace
}  // namespace deltaworks::services

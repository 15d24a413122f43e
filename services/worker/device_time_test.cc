// What jobs are charged for must add up, whoever trained beside them.

#include "services/worker/device_time.h"

#include <numeric>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;

TEST(DeviceTimeTest, AJobAloneHasAllOfIt) {
  EXPECT_THAT(DeviceTimeShares(absl::Seconds(1), 135'000'000, {{.tokens = 3}}),
              ElementsAre(absl::Seconds(1)));
}

TEST(DeviceTimeTest, SharesGoByTokensAndByWeights) {
  const auto seconds = [](const std::vector<PassPart>& parts) {
    return DeviceTimeShares(absl::Seconds(10), 100, parts);
  };
  EXPECT_THAT(seconds({{.tokens = 10}, {.tokens = 30}, {.tokens = 60}}),
              ElementsAre(absl::Seconds(1), absl::Seconds(3), absl::Seconds(6)));
  // 4 * 100 + 6 * 100 beside 4 * 100 + 6 * 0; and 2 * 100 + 2 * 100 for one that evaluates.
  EXPECT_THAT(seconds({{.tokens = 4, .trainable_parameters = 100}, {.tokens = 15}}),
              ElementsAre(absl::Seconds(4), absl::Seconds(6)));
  EXPECT_THAT(seconds({{.tokens = 5, .trainable_parameters = 100, .evaluated = true},
                       {.tokens = 3, .trainable_parameters = 100},
                       {.tokens = 25, .evaluated = true}}),
              ElementsAre(absl::Seconds(2), absl::Seconds(3), absl::Seconds(5)));
}

TEST(DeviceTimeTest, SharesAddUpToThePassToTheNanosecond) {
  for (const absl::Duration pass :
       {absl::Nanoseconds(1), absl::Nanoseconds(999'999'999), absl::Hours(24)}) {
    std::vector<PassPart> parts;
    for (int64_t i = 0; i < 256; ++i) {
      parts.push_back({.tokens = 131'072 - 17 * i, .trainable_parameters = i * 1'000'003});
    }
    const auto shares = DeviceTimeShares(pass, /*base_parameters=*/int64_t{1} << 43, parts);
    EXPECT_EQ(std::accumulate(shares.begin(), shares.end(), absl::ZeroDuration()), pass);
    for (const absl::Duration share : shares) EXPECT_GE(share, absl::ZeroDuration());
  }
}

TEST(DeviceTimeTest, APassWithoutTokensHasNothingToShare) {
  EXPECT_THAT(DeviceTimeShares(absl::Seconds(1), 100, {}), ElementsAre());
  EXPECT_THAT(DeviceTimeShares(absl::Seconds(1), 100, {PassPart()}),
              ElementsAre(absl::ZeroDuration()));
}

}  // namespace
}  // namespace deltaworks::services

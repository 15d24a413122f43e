// The golden cases come from a second implementation in Python (testdata/make_golden.py); the
// other tests ask for what an interval must do whatever its random numbers are.

#include "trainer/metrics/bootstrap.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

TEST(PairedBootstrapTest, EqualsASecondImplementation) {
  const auto text = ReadFile("trainer/metrics/testdata/bootstrap.json");
  ASSERT_TRUE(text.ok()) << text.status();
  const auto golden = ParseJson(*text, "bootstrap.json");
  ASSERT_TRUE(golden.ok()) << golden.status();
  ASSERT_EQ((*golden)["cases"].size(), 3);
  for (const Json& expected : (*golden)["cases"]) {
    const auto difference = PairedBootstrap(expected["base"].get<std::vector<double>>(),
                                            expected["other"].get<std::vector<double>>(),
                                            {.resample_count = expected["resample_count"],
                                             .confidence = expected["confidence"],
                                             .seed = expected["seed"]});
    ASSERT_TRUE(difference.ok()) << difference.status();
    // Values are below 1 and the sums have at most 50 terms: 50 x 2^-53 < 1e-14; percentiles of
    // neighbouring means interpolate with rounded weights.
    EXPECT_NEAR(difference->mean, expected["mean"].get<double>(), 1e-14);
    EXPECT_NEAR(difference->low, expected["low"].get<double>(), 1e-13);
    EXPECT_NEAR(difference->high, expected["high"].get<double>(), 1e-13);
  }
}

// Differences -1 and +1 in equal number around `mean`, so that their deviation is 1.
std::vector<double> Scores(double mean, int count) {
  std::vector<double> scores(count);
  for (int i = 0; i < count; ++i) scores[i] = mean + (i % 2 == 0 ? 1 : -1);
  return scores;
}

TEST(PairedBootstrapTest, TheIntervalHasTheWidthOfTheNormalDistribution) {
  constexpr int kCount = 400;
  const std::vector<double> zeros(kCount, 0);
  const auto difference = PairedBootstrap(zeros, Scores(0.25, kCount));
  ASSERT_TRUE(difference.ok()) << difference.status();
  EXPECT_DOUBLE_EQ(difference->mean, 0.25);
  // The mean of 400 has deviation 1/20; 1.96 of them on each side. The 2.5 % point of 10,000
  // resamples is itself known to sqrt(.025 x .975 / 10000) / density(-1.96) = 0.027 deviations;
  // means move in steps of 2/400 = 0.1 deviations.
  const double deviation = 1 / std::sqrt(kCount);
  EXPECT_NEAR((difference->mean - difference->low) / deviation, 1.96, 0.2);
  EXPECT_NEAR((difference->high - difference->mean) / deviation, 1.96, 0.2);
}

TEST(PairedBootstrapTest, PairsStayTogether) {
  // Wildly different examples, the same gain on each: nothing is uncertain.
  const auto difference = PairedBootstrap({0, 100, -50}, {1, 101, -49});
  ASSERT_TRUE(difference.ok()) << difference.status();
  EXPECT_EQ(difference->low, 1);
  EXPECT_EQ(difference->high, 1);
}

TEST(PairedBootstrapTest, MoreConfidenceGivesAWiderInterval) {
  const std::vector<double> zeros(40, 0);
  const auto narrow = PairedBootstrap(zeros, Scores(0, 40), {.confidence = 0.5});
  const auto wide = PairedBootstrap(zeros, Scores(0, 40), {.confidence = 0.99});
  ASSERT_TRUE(narrow.ok() && wide.ok());
  EXPECT_LT(wide->low, narrow->low);
  EXPECT_GT(wide->high, narrow->high);
}

TEST(PairedBootstrapTest, TheSeedDecidesTheBits) {
  const std::vector<double> zeros(9, 0);
  const std::vector<double> scores = {.1, .25, .37, -.4, .52, .61, -.73, .88, .94};
  const auto a = PairedBootstrap(zeros, scores, {.resample_count = 100, .seed = 1});
  const auto b = PairedBootstrap(zeros, scores, {.resample_count = 100, .seed = 1});
  const auto c = PairedBootstrap(zeros, scores, {.resample_count = 100, .seed = 2});
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  EXPECT_EQ(a->low, b->low);
  EXPECT_EQ(a->high, b->high);
  EXPECT_NE(a->low, c->low);
}

TEST(PairedBootstrapTest, BadInputIsNamed) {
  const auto message = [](absl::Span<const double> base, absl::Span<const double> other,
                          BootstrapOptions options = {}) {
    return PairedBootstrap(base, other, options).status().ToString();
  };
  EXPECT_THAT(message({}, {}), HasSubstr("0 and 0 elements"));
  EXPECT_THAT(message({1}, {1, 2}), HasSubstr("1 and 2 elements"));
  EXPECT_THAT(message({1, std::numeric_limits<double>::quiet_NaN()}, {1, 2}),
              HasSubstr("example 1"));
  EXPECT_THAT(message({1}, {2}, {.resample_count = 0}), HasSubstr("resample_count is 0"));
  EXPECT_THAT(message({1}, {2}, {.confidence = 1}), HasSubstr("confidence is 1"));
}

}  // namespace
}  // namespace deltaworks::trainer

#include "trainer/generate/sampler.h"

#include <cmath>
#include <limits>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

const std::vector<float> kLogits = {0, std::log(2.0f), std::log(5.0f), std::log(2.0f)};

std::vector<int> Counts(const SamplingConfig& config, int draws) {
  std::vector<int> counts(kLogits.size());
  for (int i = 0; i < draws; ++i) ++counts[SampleToken(kLogits, config, i)];
  return counts;
}

TEST(SamplerTest, GreedyTakesTheFirstOfTheLargest) {
  EXPECT_EQ(SampleToken(kLogits, {}, 0), 2);
  EXPECT_EQ(SampleToken({1, 3, 3}, {}, 0), 1);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(SampleToken({nan, 3, nan}, {}, 0), 1);
  EXPECT_EQ(SampleToken({nan, nan}, {.temperature = 1}, 0), 0);
}

TEST(SamplerTest, AtTemperatureOneTokensComeWithTheirProbability) {
  const std::vector<int> counts = Counts({.temperature = 1, .seed = 3}, 10'000);
  // Probabilities .1 .2 .5 .2; deviation of a count at most 50: four of them.
  EXPECT_NEAR(counts[0], 1000, 200);
  EXPECT_NEAR(counts[1], 2000, 200);
  EXPECT_NEAR(counts[2], 5000, 200);
}

TEST(SamplerTest, TopKAndTopPKeepTheLikeliest) {
  const std::vector<int> top_k = Counts({.temperature = 1, .top_k = 2, .seed = 3}, 1000);
  EXPECT_EQ(top_k[0] + top_k[3], 0);
  EXPECT_GT(top_k[1], 0);
  // .5 < .6 <= .5 + .2: two tokens stay.
  const std::vector<int> top_p = Counts({.temperature = 1, .top_p = 0.6, .seed = 3}, 1000);
  EXPECT_EQ(top_p[0] + top_p[3], 0);
  EXPECT_GT(top_p[1], 0);
  const std::vector<int> first = Counts({.temperature = 1, .top_p = 1e-9, .seed = 3}, 100);
  EXPECT_EQ(first[2], 100);
}

TEST(SamplerTest, SeedAndNumberDecide) {
  const SamplingConfig config{.temperature = 1, .seed = 3};
  const SamplingConfig other{.temperature = 1, .seed = 4};
  int differing = 0;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(SampleToken(kLogits, config, i), SampleToken(kLogits, config, i));
    differing += SampleToken(kLogits, config, i) != SampleToken(kLogits, other, i);
  }
  EXPECT_GT(differing, 20);
}

TEST(SamplerTest, ASettingOutOfBoundsIsNamed) {
  EXPECT_EQ(CheckSamplingConfig({.temperature = -1}).message(), "temperature is -1, want 0..100");
  EXPECT_EQ(CheckSamplingConfig({.top_p = 0}).message(), "top_p is 0, want 0 < top_p <= 1");
  EXPECT_EQ(CheckSamplingConfig({.top_k = -1}).message(), "top_k is -1, want >= 0");
  EXPECT_TRUE(CheckSamplingConfig({}).ok());
}

}  // namespace
}  // namespace deltaworks::trainer

#include "trainer/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "trainer/backend/philox.h"

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
  // Where it is and what stands before it do not matter.
  for (size_t place = 0; place < 40; ++place) {
    std::vector<float> logits(40, nan);
    for (size_t i = 0; i < logits.size(); i += 3)
      logits[i] = -std::numeric_limits<float>::infinity();
    logits[place] = logits[39] = -1;
    EXPECT_EQ(SampleToken(logits, {}, 0), static_cast<int32_t>(place));
  }
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

// What SampleToken does, with all tokens sorted.
int32_t SampleSorted(const std::vector<float>& logits, const SamplingConfig& config,
                     double uniform) {
  std::vector<int32_t> order;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isnan(logits[i])) order.push_back(static_cast<int32_t>(i));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (config.top_k > 0 && config.top_k < std::ssize(order)) order.resize(config.top_k);
  double total = 0, kept = 0;
  const auto weight = [&](int32_t id) {
    return std::exp((double{logits[id]} - logits[order[0]]) / config.temperature);
  };
  for (const int32_t id : order) total += weight(id);
  size_t count = 0;
  while (count < order.size() && (count == 0 || kept < config.top_p * total)) {
    kept += weight(order[count++]);
  }
  double sum = 0;
  for (size_t i = 0; i + 1 < count; ++i) {
    sum += weight(order[i]);
    if (sum > uniform * kept) return order[i];
  }
  return order[count - 1];
}

TEST(SamplerTest, OfAWholeVocabularyItTakesWhatAFullSortWould) {
  std::mt19937 random(1);
  for (const float deviation : {0.0f, 0.5f, 3.0f}) {
    std::normal_distribution<float> normal(0, deviation == 0 ? 1 : deviation);
    std::vector<float> logits(3000);
    for (float& logit : logits) logit = deviation == 0 ? 1 : normal(random);
    logits[17] = logits[1234] = std::numeric_limits<float>::quiet_NaN();
    for (const double top_p : {1e-9, 0.3, 0.999, 1.0}) {
      for (const int64_t top_k : {0, 1, 65, 2999, 5000}) {
        const SamplingConfig config{.temperature = 1, .top_p = top_p, .top_k = top_k, .seed = 5};
        for (int64_t number = 0; number < 20; ++number) {
          const PhiloxWords words =
              Philox4x32(config.seed, {static_cast<uint32_t>(number), kSamplingSite, 0, 0});
          const double uniform = ((uint64_t{words[0]} << 21) ^ (words[1] >> 11)) * 0x1p-53;
          EXPECT_EQ(SampleToken(logits, config, number), SampleSorted(logits, config, uniform))
              << deviation << " " << top_p << " " << top_k << " " << number;
        }
      }
    }
  }
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

// The scheduler puts jobs together by these numbers, so they are right where passes tell, sane
// where they do not, and few.

#include "services/worker/pass_timer.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

constexpr double kFixed = 0.040, kPerToken = 0.0005;

PassMeasure PassOf(int64_t tokens, double seconds, const std::string& base = "sha256:base") {
  return {.base_manifest_digest = base,
          .compute_type = v1::BF16,
          .tokens = tokens,
          .duration = absl::Seconds(seconds)};
}

std::vector<v1::PassTime> TimesOf(const PassTimer& timer) {
  v1::SyncRequest request;
  timer.AppendTo(&request);
  return {request.pass_times().begin(), request.pass_times().end()};
}

TEST(PassTimerTest, PassesOfTwoSizesTellTheFixedPartFromThatOfATokenWhateverTheNoise) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    std::normal_distribution<double> noise(0, 0.01);
    PassTimer timer;
    for (int i = 0; i < 200; ++i) {
      const int64_t tokens = i % 2 == 0 ? 200 : 2'000;
      const double seconds = kFixed + kPerToken * static_cast<double>(tokens);
      timer.Add(PassOf(tokens, seconds * (1 + noise(random))));
    }
    const auto times = TimesOf(timer);
    ASSERT_EQ(times.size(), 1u);
    EXPECT_EQ(times[0].base_manifest_digest(), "sha256:base");
    EXPECT_EQ(times[0].compute_type(), v1::BF16);
    // 93 passes count: the noise of each size's mean is 1 % / sqrt(46), 1.5 ms at 2,000 tokens and
    // a tenth of that at 200, so of the slope 1.5 ms / 1,800. Five times that; and the pass made
    // up, 8 ms from the line and one of 94, a tenth of that and less.
    EXPECT_NEAR(times[0].seconds_per_token(), kPerToken, 5 * 0.0015 / 1'800 + 0.0008 / 1'800);
    EXPECT_NEAR(times[0].fixed_seconds(), kFixed, 0.005);
  }
}

TEST(PassTimerTest, PassesOfOneSizeGiveThatTimeAndAFixedPartOf64Tokens) {
  for (const int passes : {1, 2, 1'000}) {
    PassTimer timer;
    for (int i = 0; i < passes; ++i) timer.Add(PassOf(1'000, 0.532));
    const v1::PassTime time = TimesOf(timer)[0];
    EXPECT_NEAR(time.seconds_per_token(), 0.532 / 1'064, 1e-12);
    EXPECT_NEAR(time.fixed_seconds(), 64 * time.seconds_per_token(), 1e-10);
  }
}

TEST(PassTimerTest, TheFixedPartIsNeverBelowZeroAndATokenAlwaysTakesTime) {
  // Larger passes that take more than their part, as where caches end; and less than smaller ones.
  for (const double large : {10.0, 2.0, 1.0, 0.1, 0.001}) {
    SCOPED_TRACE(large);
    PassTimer timer;
    for (int i = 0; i < 100; ++i) {
      timer.Add(PassOf(100, 1));
      timer.Add(PassOf(200, large));
      const v1::PassTime time = TimesOf(timer)[0];
      EXPECT_GE(time.fixed_seconds(), 0);
      EXPECT_GT(time.seconds_per_token(), 0);
    }
  }
  PassTimer timer;
  for (int i = 0; i < 100; ++i) {
    timer.Add(PassOf(100, 0.1));
    timer.Add(PassOf(200, 10));
  }
  // Through 0: (100 * 0.1 + 200 * 10) / (100^2 + 200^2), the last pass a little more.
  EXPECT_EQ(TimesOf(timer)[0].fixed_seconds(), 0);
  EXPECT_NEAR(TimesOf(timer)[0].seconds_per_token(), 2'010.0 / 50'000, 0.001);
}

TEST(PassTimerTest, OldPassesFade) {
  PassTimer timer;
  for (int i = 0; i < 1'000; ++i) timer.Add(PassOf(1'000, 10));
  for (int i = 0; i < 64; ++i) timer.Add(PassOf(1'000, 20));
  const v1::PassTime half = TimesOf(timer)[0];
  EXPECT_NEAR(half.fixed_seconds() + 1'000 * half.seconds_per_token(), 15, 0.1);
  for (int i = 0; i < 640; ++i) timer.Add(PassOf(1'000, 20));
  const v1::PassTime none = TimesOf(timer)[0];
  EXPECT_NEAR(none.fixed_seconds() + 1'000 * none.seconds_per_token(), 20, 0.1);
}

TEST(PassTimerTest, APassWithoutTokensOrTimeTellsNothing) {
  PassTimer timer;
  timer.Add(PassOf(0, 1));
  timer.Add(PassOf(100, 0));
  EXPECT_EQ(TimesOf(timer).size(), 0u);
}

TEST(PassTimerTest, BasesAreKeptApartByDigestAndType) {
  PassTimer timer;
  timer.Add(PassOf(936, 1, "sha256:a"));
  timer.Add(PassOf(936, 2, "sha256:b"));
  PassMeasure wide = PassOf(936, 4, "sha256:b");
  wide.compute_type = v1::F32;
  timer.Add(wide);
  const auto times = TimesOf(timer);
  ASSERT_EQ(times.size(), 3u);
  EXPECT_NEAR(times[0].seconds_per_token(), 0.004, 1e-9);
  EXPECT_EQ(times[0].compute_type(), v1::F32);
  EXPECT_NEAR(times[1].seconds_per_token(), 0.002, 1e-9);
  EXPECT_EQ(times[1].compute_type(), v1::BF16);
  EXPECT_NEAR(times[2].seconds_per_token(), 0.001, 1e-9);
}

TEST(PassTimerTest, OfManyBasesTheOneNotUsedForLongestGoes) {
  PassTimer timer;
  for (int i = 0; i < 16; ++i) timer.Add(PassOf(100, 1, absl::StrCat("base ", i)));
  timer.Add(PassOf(100, 1, "base 0"));
  timer.Add(PassOf(100, 1, "another"));
  const auto times = TimesOf(timer);
  ASSERT_EQ(times.size(), PassTimer::kBasesMax);
  std::vector<std::string> bases;
  for (const v1::PassTime& time : times) bases.push_back(time.base_manifest_digest());
  EXPECT_EQ(bases[0], "another");
  EXPECT_EQ(bases[1], "base 0");
  EXPECT_THAT(bases, ::testing::Not(::testing::Contains("base 1")));
  EXPECT_THAT(bases, ::testing::Contains("base 2"));
}

}  // namespace
}  // namespace deltaworks::services

#include "scheduler/usage.h"

#include "gtest/gtest.h"
#include "scheduler/state.h"

namespace deltaworks::scheduler {
namespace {

constexpr absl::Time kStart = absl::FromUnixSeconds(20'000 * 86'400);  // Midnight.
constexpr absl::Duration kHalfLife = absl::Hours(24);

TEST(UsageTest, AmountsAddUpByDay) {
  Usage usage;
  usage.Add("t", {.device_ms = 1500, .tokens = 10, .written_bytes = 7}, kStart + absl::Hours(1));
  usage.Add("t", {.device_ms = 500, .tokens = 5, .written_bytes = 9}, kStart + absl::Hours(23));
  usage.Add("t", {.device_ms = 7, .tokens = 1}, kStart + absl::Hours(24));
  usage.Add("other", {.device_ms = 1}, kStart);
  const Usage::Rows& days = *usage.Days("t");
  ASSERT_EQ(days.size(), 2);
  EXPECT_EQ(days.at(20'000).device_ms, 2000);
  EXPECT_EQ(days.at(20'000).tokens, 15);
  EXPECT_EQ(days.at(20'000).written_bytes, 16);
  EXPECT_EQ(days.at(20'001).device_ms, 7);
  EXPECT_EQ(usage.Days("nobody"), nullptr);
}

TEST(UsageTest, WhatWasUsedCountsHalfForEveryHalfLife) {
  Usage usage;
  usage.Add("t", {.device_ms = 64'000}, kStart);
  EXPECT_DOUBLE_EQ(usage.Decayed("t", kStart + absl::Minutes(59), kHalfLife), 64);
  EXPECT_DOUBLE_EQ(usage.Decayed("t", kStart + absl::Hours(24), kHalfLife), 32);
  EXPECT_DOUBLE_EQ(usage.Decayed("t", kStart + absl::Hours(48), kHalfLife), 16);
  // What is added later in the same hour is seen at once.
  usage.Add("t", {.device_ms = 1'000}, kStart + absl::Hours(48));
  EXPECT_DOUBLE_EQ(usage.Decayed("t", kStart + absl::Hours(48), kHalfLife), 17);
  EXPECT_DOUBLE_EQ(usage.Decayed("t", kStart + absl::Hours(48), absl::Hours(48)), 33);
  EXPECT_EQ(usage.Decayed("nobody", kStart, kHalfLife), 0);
}

TEST(UsageTest, HoursAndDaysAreForgottenWhenNewerOnesCome) {
  Usage usage;
  for (int64_t hour = 0; hour < 24 * 500; ++hour) {
    usage.Add("t", {.device_ms = 1}, kStart + absl::Hours(hour));
  }
  const TenantUsage rows = usage.Of("t");
  EXPECT_EQ(rows.hours_size(), Usage::kHoursKept);
  EXPECT_EQ(rows.days_size(), Usage::kDaysKept);
  EXPECT_EQ(rows.days(rows.days_size() - 1).index(), 20'499);
  EXPECT_EQ(rows.days(0).device_ms(), 24);
}

TEST(UsageTest, RestoredRowsGoOnAsTheyWere) {
  Usage usage;
  usage.Add("t", {.device_ms = 3, .tokens = 4, .written_bytes = 5}, kStart);
  Usage restored;
  restored.Restore(usage.Of("t"));
  for (Usage* u : {&usage, &restored}) u->Add("t", {.device_ms = 5}, kStart + absl::Hours(3));
  EXPECT_EQ(DeterministicBytes(restored.Of("t")), DeterministicBytes(usage.Of("t")));
  EXPECT_EQ(restored.Decayed("t", kStart + absl::Hours(30), kHalfLife),
            usage.Decayed("t", kStart + absl::Hours(30), kHalfLife));
}

}  // namespace
}  // namespace deltaworks::scheduler

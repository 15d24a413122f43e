// Who may train beside whom, as literal tables.

#include "scheduler/worker_load.h"

#include <limits>
#include <string>

#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"

namespace deltaworks::scheduler {
namespace {

constexpr double kOverhead = 64;
constexpr int64_t kMemory = 1'000'000;

JobShape Shape(int64_t tokens, const std::string& cohort = "base") {
  return {.cohort = cohort,
          .memory = {.base_bytes = 1000, .own_bytes = 10, .rows = tokens, .row_bytes = 1},
          .pass_tokens = tokens};
}

WorkerLoad Load(const std::vector<JobShape>& shapes, bool alone = false) {
  WorkerLoad load;
  for (const JobShape& shape : shapes) {
    load.Add({.job = std::to_string(load.attempts()), .shape = shape, .alone = alone});
  }
  return load;
}

TEST(WorkerLoadTest, AJobJoinsThoseOfItsBaseWhileItSavesSomethingAndNobodyBecomesTooSlow) {
  struct Case {
    const char* what;
    std::vector<JobShape> there;
    JobShape joins;
    bool admitted;
  };
  const Case cases[] = {
      {"nobody there", {}, Shape(64), true},
      {"the same base", {Shape(64)}, Shape(64), true},
      {"another base", {Shape(64)}, Shape(64, "other"), false},
      {"shares with nobody", {Shape(64)}, Shape(64, ""), false},
      {"one is there that shares with nobody", {Shape(64, "")}, Shape(64), false},
      // (64 + t) / t >= 1.05 up to 1,280 tokens.
      {"saves 5 %", {Shape(1280)}, Shape(1280), true},
      {"saves less", {Shape(1280)}, Shape(1290), false},
      // (64 + all) / (64 + fewest) <= 8.
      {"8 times slower", {Shape(64), Shape(896)}, Shape(0), false},
      {"just so", {Shape(64), Shape(832)}, Shape(64), true},
      {"the new one would be too slow", {Shape(1024)}, Shape(64), false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Load(c.there).Admits(c.joins, kMemory, kOverhead, Options()), c.admitted) << c.what;
  }
}

TEST(WorkerLoadTest, NobodyJoinsOneThatWasGrantedTheWorkerAlone) {
  EXPECT_FALSE(Load({Shape(64)}, /*alone=*/true).Admits(Shape(64), kMemory, kOverhead, Options()));
  EXPECT_TRUE(Load({Shape(64)}, /*alone=*/true).Full(Options()));
}

TEST(WorkerLoadTest, AWorkerHoldsAtMostSoManyAttempts) {
  Options options;
  options.attempts_per_worker = 2;
  EXPECT_TRUE(Load({Shape(1)}).Admits(Shape(1), kMemory, kOverhead, options));
  EXPECT_FALSE(Load({Shape(1), Shape(1)}).Admits(Shape(1), kMemory, kOverhead, options));
}

TEST(WorkerLoadTest, MemoryIsThatOfTheCommonPass) {
  const MemoryParts q = {.base_bytes = 1000,
                         .own_bytes = 50,
                         .rows = 10,
                         .row_bytes = 3,
                         .pass_bytes = 7,
                         .hidden_row_bytes = {8, 0}};
  const MemoryParts down = {.base_bytes = 1000,
                            .own_bytes = 20,
                            .rows = 5,
                            .row_bytes = 4,
                            .pass_bytes = 9,
                            .hidden_row_bytes = {1, 2}};
  EXPECT_EQ(q.Bytes(), 1000 + 50 + 7 + 10 * (3 + 8));
  MemoryParts both = q;
  both.Add(down);
  // 15 rows, each as wide as the widest, the groups' widest added up.
  const int64_t wanted = 1000 + 70 + 9 + 15 * (4 + 8 + 2);
  EXPECT_EQ(both.Bytes(), wanted);

  JobShape first = Shape(64);
  first.memory = q;
  JobShape second = Shape(64);
  second.memory = down;
  EXPECT_TRUE(Load({first}).Admits(second, wanted, kOverhead, Options()));
  EXPECT_FALSE(Load({first}).Admits(second, wanted - 1, kOverhead, Options()));
}

TEST(WorkerLoadTest, AbsurdNumbersFitNowhere) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const MemoryParts absurd = {
      .base_bytes = kMax, .own_bytes = kMax, .rows = kMax, .row_bytes = kMax};
  EXPECT_EQ(absurd.Bytes(), kMax);
}

TEST(WorkerLoadTest, WhatLeavesIsNoLongerCounted) {
  WorkerLoad load = Load({Shape(64), Shape(128), Shape(256)});
  EXPECT_EQ(load.pass_tokens(), 448);
  EXPECT_TRUE(load.Remove("0"));
  EXPECT_FALSE(load.Remove("0"));
  EXPECT_EQ(load.pass_tokens(), 384);
  EXPECT_EQ(load.pass_tokens_min(), 128);
  EXPECT_TRUE(load.Remove("1") && load.Remove("2"));
  EXPECT_TRUE(load.empty());
  EXPECT_EQ(load.cohort(), "");
}

// ---- What a job's shape is ----

JobRecord Record(const std::string& tenant = "t") {
  JobRecord record;
  v1::Job& job = *record.mutable_job();
  job.set_name("tenants/" + tenant + "/jobs/a");
  job.mutable_train()->set_compute_type(v1::BF16);
  job.mutable_train()->set_micro_batch_tokens(512);
  *job.mutable_status()->mutable_facts() = MakeSharingFacts(100);
  return record;
}

TEST(JobShapeTest, WhoWantsWhomBesideIt) {
  const auto shares = [](v1::Placement::Cohort a, v1::Placement::Cohort b,
                         const std::string& tenant, v1::Placement::Cohort floor) {
    Options options;
    options.cohort_floor = floor;
    JobRecord first = Record();
    JobRecord second = Record(tenant);
    first.mutable_job()->mutable_placement()->set_cohort(a);
    second.mutable_job()->mutable_placement()->set_cohort(b);
    const JobShape one = ShapeOf(first, options);
    return !one.alone() && one.cohort == ShapeOf(second, options).cohort;
  };
  constexpr auto kNone = v1::Placement::COHORT_UNSPECIFIED;
  constexpr auto kAny = v1::Placement::COHORT_ANY;
  constexpr auto kTenant = v1::Placement::COHORT_TENANT;
  constexpr auto kAlone = v1::Placement::COHORT_ALONE;
  EXPECT_TRUE(shares(kNone, kAny, "other", kNone));
  EXPECT_TRUE(shares(kTenant, kTenant, "t", kAny));
  EXPECT_FALSE(shares(kTenant, kTenant, "other", kAny));
  EXPECT_FALSE(shares(kTenant, kAny, "t", kAny));
  EXPECT_FALSE(shares(kAlone, kAlone, "t", kAny));
  // The operator's floor.
  EXPECT_TRUE(shares(kAny, kAny, "t", kTenant));
  EXPECT_FALSE(shares(kAny, kAny, "other", kTenant));
  EXPECT_FALSE(shares(kAny, kAny, "t", kAlone));
}

TEST(JobShapeTest, AJobWhoseMemoryIsNotKnownInPartsOrThatDiedTwiceSharesWithNobody) {
  const Options options;
  EXPECT_FALSE(ShapeOf(Record(), options).alone());
  JobRecord unknown = Record();
  unknown.mutable_job()->mutable_status()->mutable_facts()->clear_memory();
  EXPECT_TRUE(ShapeOf(unknown, options).alone());
  JobRecord negative = Record();
  negative.mutable_job()->mutable_status()->mutable_facts()->mutable_memory()->set_own_bytes(-1);
  EXPECT_TRUE(ShapeOf(negative, options).alone());
  JobRecord died = Record();
  died.set_run_alone(true);
  EXPECT_TRUE(ShapeOf(died, options).alone());
  Options one;
  one.attempts_per_worker = 1;
  EXPECT_TRUE(ShapeOf(Record(), one).alone());
}

TEST(JobShapeTest, NumbersThatDifferLittleAreAlikeAndNeverRoundedDown) {
  const Options options;
  JobRecord record = Record();
  v1::TrainFacts& facts = *record.mutable_job()->mutable_status()->mutable_facts();
  facts.set_step_tokens(100);
  facts.mutable_memory()->set_own_bytes(33 << 20);
  const JobShape shape = ShapeOf(record, options);
  EXPECT_EQ(shape.pass_tokens, 112);
  EXPECT_EQ(shape.memory.own_bytes, 34 << 20);
  facts.set_step_tokens(112);
  facts.mutable_memory()->set_own_bytes(34 << 20);
  EXPECT_TRUE(ShapeOf(record, options) == shape);
  facts.set_step_tokens(113);
  EXPECT_FALSE(ShapeOf(record, options) == shape);
  facts.set_step_tokens(100'000);  // More than a micro-batch.
  EXPECT_EQ(ShapeOf(record, options).pass_tokens, 512);
}

}  // namespace
}  // namespace deltaworks::scheduler

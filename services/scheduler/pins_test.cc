// Pins in the store follow the committed state: never one too few, whatever is granted, committed
// or stopped while a call to the store is under way.

#include "services/scheduler/pins.h"

#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/testing/core_world.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::JobName;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

// Pins `data` for `job`, as a worker does. Returns its digest.
std::string Pin(CoreWorld& world, const std::string& job, const std::string& data) {
  v1::CreatePinRequest request;
  request.mutable_pin()->set_owner(job);
  request.mutable_pin()->set_digest(world.store.AddBlob("t", data));
  const auto pinned = world.store.CreatePin(request);
  EXPECT_TRUE(pinned.ok()) << pinned.status();
  return request.pin().digest();
}

// The bytes of ScriptedCheckpoint.
std::string CheckpointData(const std::string& job, int64_t step) {
  return absl::StrCat("checkpoint ", step, " of ", job);
}

// A paused job with checkpoints of steps 10, 20 and so on, none of them pinned.
std::string PausedJob(CoreWorld& world, int checkpoints) {
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  world.Sync(worker);
  world.Sync(worker);
  for (int i = 0; i < checkpoints; ++i) {
    worker.Train(10, /*checkpoint=*/true);
    world.Sync(worker);
  }
  EXPECT_TRUE(world.Pause(job).ok());
  world.Sync(worker);
  worker.Train(1);
  world.Sync(worker);
  EXPECT_EQ(world.StateOf(job), v1::PAUSED);
  return job;
}

TEST(PinsTest, SupersededCheckpointsAreUnpinnedAndAtTheEndAllButTheKept) {
  CoreWorld world("pins");
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  world.Sync(worker);
  world.Sync(worker);
  for (int64_t step = 10; step <= 40; step += 10) {
    Pin(world, job, CheckpointData(job, step));
    worker.Train(10, /*checkpoint=*/true);
    world.Advance(absl::Seconds(1));
    world.Sync(worker);
  }
  EXPECT_THAT(world.store.Pins(), UnorderedElementsAre(Pair(job, ScriptedCheckpoint(job, 30)),
                                                       Pair(job, ScriptedCheckpoint(job, 40))));

  Pin(world, job, absl::StrCat("result of ", job));
  Pin(world, job, "uploaded, but its attempt died");
  world.Finish(worker);
  world.Advance(absl::Seconds(5));
  ASSERT_EQ(world.StateOf(job), v1::SUCCEEDED);
  EXPECT_THAT(world.store.Pins(), UnorderedElementsAre(Pair(job, ScriptedCheckpoint(job, 30)),
                                                       Pair(job, ScriptedCheckpoint(job, 40))));
  EXPECT_EQ(world.Metric("deltaworks_scheduler_pins_dropped_total"), 4);
}

TEST(PinsTest, OnceADayPinsAreComparedBothWaysAndStrangersAreLeftAlone) {
  CoreWorld world("reconcile");
  const std::string job = PausedJob(world, /*checkpoints=*/1);
  world.store.AddBlob("t", CheckpointData(job, 10));
  // Its checkpoint was never pinned; what is pinned is not needed.
  Pin(world, job, "left by a crash");
  Pin(world, JobName("from-another-database"), "left by a crash");
  world.Advance(absl::Hours(25));
  EXPECT_THAT(world.store.Pins(), UnorderedElementsAre(Pair(job, ScriptedCheckpoint(job, 10)),
                                                       Pair(JobName("from-another-database"), _)));
  EXPECT_EQ(world.Metric("deltaworks_scheduler_pins_made_total"), 1);
}

TEST(PinsTest, ADropThatAComparisonFoundIsNotMadeOnceAWorkerTookTheJob) {
  for (const bool committed : {false, true}) {
    SCOPED_TRACE(committed ? "it left, its checkpoint is committed" : "it may pin at any time");
    CoreWorld world("pins_race");
    ScriptedWorker worker("w");
    const std::string other = world.Submit("a");
    ASSERT_TRUE(world.Pause(other).ok());
    const std::string job = world.Submit("b");
    Pin(world, other, "left by a crash");
    // Left by an attempt that died before it said so; the next one makes the same bytes.
    const std::string digest = Pin(world, job, CheckpointData(job, 10));
    world.pool.hold = true;
    world.Advance(absl::Hours(24));
    world.pool.RunHeld();  // Lists.
    world.loop.RunReady();
    ASSERT_THAT(world.pool.held, SizeIs(1));  // The drop of the first job; that of ours waits.

    world.Sync(worker);
    world.Sync(worker);
    ASSERT_THAT(worker.jobs(), ElementsAre(job));
    if (committed) {
      worker.Train(10, /*checkpoint=*/true);
      world.Sync(worker);
      ASSERT_TRUE(world.Pause(job).ok());
      world.Sync(worker);
      worker.Train(1);
      world.Sync(worker);
      ASSERT_EQ(world.StateOf(job), v1::PAUSED);
      ASSERT_EQ(world.Get(job)->status().checkpoint().manifest_digest(), digest);
    }
    world.pool.hold = false;
    world.pool.RunHeld();
    world.Advance(absl::Seconds(1));
    EXPECT_THAT(world.store.Pins(), ElementsAre(Pair(job, digest)));
    EXPECT_EQ(world.store.CallCount("DeletePin"), 1);
  }
}

TEST(PinsTest, WhatIsCommittedWhileItsPinIsDroppedIsPinnedAgain) {
  for (const bool answered : {true, false}) {
    SCOPED_TRACE(answered ? "the store answers" : "its answer is lost");
    CoreWorld world("pins_race_call");
    ScriptedWorker worker("w");
    const std::string job = world.Submit("a");
    const std::string digest = Pin(world, job, CheckpointData(job, 10));
    world.pool.hold = true;
    world.Advance(absl::Hours(24));
    world.pool.RunHeld();  // Lists.
    world.loop.RunReady();
    ASSERT_THAT(world.pool.held, SizeIs(1));  // The drop.
    world.Sync(worker);
    world.Sync(worker);
    worker.Train(10, /*checkpoint=*/true);
    world.Sync(worker);
    ASSERT_EQ(world.Get(job)->status().checkpoint().manifest_digest(), digest);
    if (!answered) {
      v1::DeletePinRequest drop;
      drop.set_owner(job);
      drop.set_digest(digest);
      ASSERT_TRUE(world.store.DeletePin(drop).ok());
      world.store.Fail("DeletePin", absl::DeadlineExceededError("no answer"));
    }
    world.pool.hold = false;
    world.pool.RunHeld();
    EXPECT_THAT(world.store.Pins(), IsEmpty());
    world.Advance(absl::Seconds(answered ? 0 : 61));
    EXPECT_THAT(world.store.Pins(), ElementsAre(Pair(job, digest)));
  }
}

TEST(PinsTest, MissingPinsAreMadeOneAtATimeAndAgainAMinuteAfterAFailure) {
  CoreWorld world("pins_missing");
  const std::string job = PausedJob(world, /*checkpoints=*/2);
  for (const int64_t step : {10, 20}) world.store.AddBlob("t", CheckpointData(job, step));
  world.store.Fail("CreatePin", absl::UnavailableError("away"), 2);
  world.pool.hold = true;
  world.Advance(absl::Hours(24));
  world.pool.RunHeld();  // Lists.
  world.loop.RunReady();
  EXPECT_THAT(world.pool.held, SizeIs(1));
  world.pool.hold = false;
  world.pool.RunHeld();
  world.Advance(absl::Seconds(58));
  EXPECT_EQ(world.store.CallCount("CreatePin"), 1);
  world.Advance(absl::Seconds(3));
  EXPECT_EQ(world.store.CallCount("CreatePin"), 2);
  EXPECT_THAT(world.store.Pins(), IsEmpty());
  world.Advance(absl::Minutes(1));
  EXPECT_THAT(world.store.Pins(), UnorderedElementsAre(Pair(job, ScriptedCheckpoint(job, 10)),
                                                       Pair(job, ScriptedCheckpoint(job, 20))));
  EXPECT_EQ(world.Metric("deltaworks_scheduler_pins_made_total"), 2);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_pin_failures_total"), 2);
}

TEST(PinsTest, BytesThatTheStoreDoesNotHaveAreCountedAndDoNotStopTheOthers) {
  CoreWorld world("pins_absent");
  const std::string job = PausedJob(world, /*checkpoints=*/2);
  world.store.AddBlob("t", CheckpointData(job, 10));
  world.Advance(absl::Hours(25));
  EXPECT_THAT(world.store.Pins(), ElementsAre(Pair(job, ScriptedCheckpoint(job, 10))));
  EXPECT_EQ(world.Metric("deltaworks_scheduler_pin_failures_total"), 1);
  EXPECT_EQ(world.store.CallCount("CreatePin"), 2);
}

// A list of pins that has always one more page.
class EndlessStore final : public FakeStoreClient {
 public:
  absl::StatusOr<v1::ListPinsResponse> ListPins(const v1::ListPinsRequest&) override {
    ++pages;
    if (on_page) on_page();
    v1::ListPinsResponse response;
    response.add_pins()->set_owner(JobName("a"));
    response.set_next_page_token("more");
    return response;
  }

  int64_t pages = 0;
  std::function<void()> on_page;
};

class PinPagesTest : public ::testing::Test {
 protected:
  PinPagesTest() { harness_.Submit("a"); }
  void Start(absl::Duration after = absl::ZeroDuration()) {
    pins_.Start(*harness_.scheduler->state(), harness_.now + after);
    loop_.RunReady();
  }

  scheduler::Harness harness_;
  FakeClock clock_;
  FakeEventLoop loop_{clock_};
  InlineCallPool pool_;
  EndlessStore store_;
  Metrics prometheus_{"scheduler"};
  SchedulerMetrics metrics_{prometheus_};
  Pins pins_{{.pages_max = 3}, loop_, pool_, harness_.archive, store_, [] {}, metrics_};
};

TEST_F(PinPagesTest, AListThatDoesNotEndIsGivenUpAtTheBoundUntilTheNextDay) {
  Start();
  EXPECT_EQ(store_.pages, 3);
  Start(absl::Hours(23));
  EXPECT_EQ(store_.pages, 3);
  Start(absl::Hours(24));
  EXPECT_EQ(store_.pages, 6);
  EXPECT_EQ(store_.CallCount("DeletePin"), 0);
}

TEST_F(PinPagesTest, AfterAStopNoFurtherPageIsAskedFor) {
  store_.on_page = [this] { pins_.Stop(); };
  Start();
  EXPECT_EQ(store_.pages, 1);
}

}  // namespace
}  // namespace deltaworks::services

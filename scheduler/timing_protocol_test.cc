// start_after, deadline, time_limit, and what may be changed later.

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::HasSubstr;

class TimingTest : public ProtocolTest {
 protected:
  TimingTest() { CHECK(h.Sync(&worker).ok()); }

  v1::CreateJobRequest Request(const std::string& id) {
    v1::CreateJobRequest request = MakeCreateRequest(id);
    *request.mutable_job()->mutable_timing() = timing;
    return request;
  }

  absl::Status Update(const v1::UpdateJobRequest& request) {
    const absl::Status status = h.Execute(request).status();
    h.Tick();
    return status;
  }

  // The worker goes on saying that it trains, and used so much.
  void Train(absl::Duration duration, int64_t device_ms = 0) {
    h.now += duration;
    v1::AttemptReport report = Harness::Report(held, kTraining, 1);
    report.set_device_ms(device_ms);
    CHECK(h.Sync(&worker, {report}).ok());
  }

  std::string Start(const std::string& id) {
    const std::string job = h.Submit(Request(id));
    CHECK(h.Sync(&worker).ok());
    held = worker.answer.assignments(0);
    CHECK(h.Sync(&worker, {Harness::Report(held, kTraining, 0)}).ok());
    return job;
  }

  v1::Timing timing;
};

TEST_F(TimingTest, BeforeItsStartAJobIsInNobodysWayAndThenTakesItsPlace) {
  *timing.mutable_start_after() = ToProto(h.now + absl::Seconds(10));
  const std::string later = h.Submit(Request("later"));
  EXPECT_EQ(h.StateOfJob(later), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(later).reason(), v1::BEFORE_START);
  EXPECT_EQ(h.WaitingOf(later).message(),
            "takes its place in the queue at 1970-01-12T13:46:50.000Z");
  EXPECT_EQ(h.WaitingOf(later).queue_position(), 0);
  h.Advance(absl::Seconds(9));
  EXPECT_EQ(h.StateOfJob(later), v1::QUEUED);
  h.Restart();
  ASSERT_TRUE(h.Sync(&worker).ok());
  EXPECT_EQ(h.StateOfJob(later), v1::QUEUED);
  h.Advance(absl::Seconds(1));
  EXPECT_EQ(h.StateOfJob(later), v1::RUNNING);
}

TEST_F(TimingTest, ItsPlaceCountsFromItsStart) {
  *timing.mutable_start_after() = ToProto(h.now + absl::Seconds(30));
  const std::string later = h.Submit(Request("later"));
  timing.Clear();
  const std::string first = h.Submit(Request("first"));
  h.now += absl::Seconds(10);
  const std::string second = h.Submit(Request("second"));
  ASSERT_EQ(h.StateOfJob(first), v1::RUNNING);
  h.now += absl::Seconds(25);  // Both wait, and its lease has ended.
  FakeWorker other("other");
  ASSERT_TRUE(h.Sync(&other).ok());
  ASSERT_EQ(h.StateOfJob(first), v1::RUNNING);
  EXPECT_EQ(h.WaitingOf(second).queue_position(), 1);
  EXPECT_EQ(h.WaitingOf(later).queue_position(), 2);
}

TEST_F(TimingTest, AJobWithoutAResultAtItsDeadlineFailsWhereverItIs) {
  *timing.mutable_deadline() = ToProto(h.now + absl::Seconds(15));
  const std::string running = Start("running");
  const std::string queued = h.Submit(Request("queued"));
  const std::string paused = h.Submit(Request("paused"));
  const std::string validating = h.Execute(Request("validating"))->job;
  ASSERT_TRUE(h.Pause(paused).ok());
  ASSERT_TRUE(SayCheckpoint(5).ok());
  Train(absl::Seconds(14));
  EXPECT_EQ(h.StateOfJob(running), v1::RUNNING);
  Train(absl::Seconds(1));
  for (const std::string& job : {running, queued, validating}) {
    EXPECT_EQ(h.StateOfJob(job), v1::FAILED) << job;
    EXPECT_EQ(Status(job).failure().code(), "DEADLINE_EXCEEDED");
    EXPECT_EQ(Status(job).failure().fault(), v1::Failure::USER);
  }
  EXPECT_EQ(Status(running).checkpoint().step(), 5);
  EXPECT_EQ(Status(running).attempts(0).end(), v1::Attempt::STOPPED);
  ASSERT_TRUE(Say(kTraining).ok());
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::STOP);
  // A paused one when it wants to go on.
  EXPECT_EQ(h.StateOfJob(paused), v1::PAUSED);
  ASSERT_TRUE(h.Resume(paused).ok());
  EXPECT_EQ(h.StateOfJob(paused), v1::FAILED);
}

TEST_F(TimingTest, AResultBeforeTheDeadlineCountsThoughItIsRegisteredLater) {
  *timing.mutable_deadline() = ToProto(h.now + absl::Seconds(15));
  const std::string a = Start("a");
  h.now += absl::Seconds(14);
  ASSERT_TRUE(SayResult().ok());
  h.Advance(absl::Hours(1));
  EXPECT_EQ(h.StateOfJob(a), v1::FINALIZING);
  h.AnswerVersion(a);
  EXPECT_EQ(h.StateOfJob(a), v1::SUCCEEDED);
}

TEST_F(TimingTest, AJobThatUsedItsDeviceTimeFailsAndACheckpointThatItBroughtStays) {
  *timing.mutable_time_limit() = ToProto(absl::Seconds(20));
  const std::string a = Start("a");
  Train(absl::Seconds(15), 15'000);
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  // Handed back: what was used still counts.
  v1::AttemptReport left = Harness::Report(held, kLeft, 1);
  left.set_device_ms(15'000);
  ASSERT_TRUE(h.Sync(&worker, {left}).ok());
  held = worker.answer.assignments(0);
  h.now += absl::Seconds(5);
  v1::AttemptReport report = Harness::Report(held, kTraining, 9);
  report.set_device_ms(5'000);
  report.mutable_checkpoint()->set_step(9);
  report.mutable_checkpoint()->set_manifest_digest(FakeDigest(9));
  ASSERT_TRUE(h.Sync(&worker, {report}).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::FAILED);
  EXPECT_EQ(Status(a).failure().code(), "TIME_LIMIT_EXCEEDED");
  EXPECT_THAT(Status(a).failure().message(),
              HasSubstr("used 20000 ms of device time, want at most 20s"));
  EXPECT_EQ(Status(a).checkpoint().step(), 9);
}

TEST_F(TimingTest, AResultThatComesWithTheLastOfItsTimeIsTaken) {
  *timing.mutable_time_limit() = ToProto(absl::Seconds(10));
  const std::string a = Start("a");
  h.now += absl::Seconds(15);
  v1::AttemptReport report = ResultReport();
  report.set_device_ms(15'000);
  ASSERT_TRUE(h.Sync(&worker, {report}).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::FINALIZING);
  EXPECT_EQ(Status(a).device_ms(), 15'000);
}

TEST_F(TimingTest, ATimingThatCannotBeIsRefused) {
  const auto refused = [&](const char* message) {
    const absl::Status status = h.Execute(Request("x")).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    timing.Clear();
  };
  *timing.mutable_deadline() = ToProto(h.now);
  refused("job.timing.deadline is 1970-01-12T13:46:40+00:00, want later than now");
  *timing.mutable_start_after() = ToProto(h.now + absl::Hours(2));
  *timing.mutable_deadline() = ToProto(h.now + absl::Hours(2));
  refused("want later than start_after");
  timing.mutable_time_limit()->set_seconds(0);
  refused("job.timing.time_limit is 0, want more than 0");
  timing.mutable_time_limit()->set_seconds(-1);
  refused("job.timing.time_limit.seconds is -1");
  timing.mutable_start_after()->set_seconds(int64_t{1} << 62);
  refused("job.timing.start_after.seconds is ");
}

// ---- Changes ----

TEST_F(TimingTest, AClassThatIsRaisedMovesTheJobForward) {
  Start("running");
  const std::string first = h.Submit(Request("first"));
  h.now += absl::Seconds(1);
  const std::string second = h.Submit(Request("second"));
  EXPECT_EQ(h.WaitingOf(second).queue_position(), 2);
  v1::UpdateJobRequest update;
  update.set_name(second);
  update.set_priority_class(v1::HIGH);
  update.set_request_id("once");
  ASSERT_TRUE(Update(update).ok());
  EXPECT_EQ(h.WaitingOf(second).queue_position(), 1);
  EXPECT_EQ(h.Shown(second).back().message(), "changed on request: class HIGH");
  const int64_t events = h.scheduler->state()->event_count();
  ASSERT_TRUE(Update(update).ok());  // The answer was lost.
  EXPECT_EQ(h.scheduler->state()->event_count(), events);
}

TEST_F(TimingTest, ATimingIsReplacedAsAWhole) {
  Start("running");
  *timing.mutable_deadline() = ToProto(h.now + absl::Seconds(5));
  const std::string job = h.Submit(Request("job"));
  v1::UpdateJobRequest update;
  update.set_name(job);
  *update.mutable_timing()->mutable_start_after() = ToProto(h.now + absl::Seconds(12));
  ASSERT_TRUE(Update(update).ok());
  EXPECT_EQ(h.WaitingOf(job).reason(), v1::BEFORE_START);
  Train(absl::Seconds(10));
  EXPECT_EQ(h.StateOfJob(job), v1::QUEUED);  // It has no deadline any more.
  Train(absl::Seconds(2));
  EXPECT_EQ(h.WaitingOf(job).reason(), v1::WORKERS_BUSY);
}

TEST_F(TimingTest, WhatCannotBeChangedSaysSo) {
  const std::string job = Start("a");
  v1::UpdateJobRequest update;
  update.set_name(job);
  EXPECT_THAT(std::string(Update(update).message()), HasSubstr("want priority_class or timing"));
  update.set_priority_class(static_cast<v1::PriorityClass>(9));
  EXPECT_THAT(std::string(Update(update).message()), HasSubstr("priority_class is 9"));
  update.set_priority_class(v1::LOW);
  *update.mutable_timing()->mutable_deadline() = ToProto(h.now);
  EXPECT_THAT(std::string(Update(update).message()), HasSubstr("want later than now"));
  update.clear_timing();
  ASSERT_TRUE(Update(update).ok());
  EXPECT_EQ(h.Record(job).job().priority_class(), v1::LOW);
  ASSERT_TRUE(h.Cancel(job).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Update(update)));
  update.set_name(JobName("nobody"));
  EXPECT_TRUE(absl::IsNotFound(Update(update)));
}

}  // namespace
}  // namespace deltaworks::scheduler

// Blame, numerics class, and why a job waits.

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(ProtocolTest, ThreeDeathsInARowAloneWithoutANewCheckpointArePoison) {
  const std::string a = Run();
  RestartWorker();
  EXPECT_EQ(Status(a).deaths_without_checkpoint(), 1);
  RestartWorker();
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  EXPECT_TRUE(h.Record(a).run_alone());
  RestartWorker();
  EXPECT_EQ(h.StateOfJob(a), v1::FAILED);
  EXPECT_EQ(Status(a).failure().code(), "POISONED");
}

TEST_F(ProtocolTest, ANewCheckpointBetweenDeathsSetsTheCountBackAndCostsNoRetry) {
  const std::string a = Run();
  for (int64_t step = 1; step <= 20; ++step) {
    ASSERT_TRUE(SayCheckpoint(step).ok());
    RestartWorker();
  }
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  EXPECT_EQ(Status(a).retries_used(), 0);
  EXPECT_EQ(Status(a).attempt_count(), 21);
  EXPECT_EQ(Status(a).checkpoint().step(), 20);
}

class NoPoisonTest : public ProtocolTest {
 protected:
  NoPoisonTest()
      : ProtocolTest([] {
          Options options;
          options.deaths_until_poison = 0;
          return options;
        }()) {}
};

TEST_F(NoPoisonTest, KillDrillsSetPoisonToUnlimitedAndTheBudgetOfRetriesStillHolds) {
  const std::string a = Run();
  for (int i = 0; i < 5; ++i) RestartWorker();
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  EXPECT_EQ(Status(a).retries_used(), 5);
  RestartWorker();
  EXPECT_EQ(h.StateOfJob(a), v1::FAILED);
  EXPECT_EQ(Status(a).failure().code(), "RETRIES_EXHAUSTED");
  EXPECT_EQ(Status(a).failure().fault(), v1::Failure::PLATFORM);
}

TEST_F(NoPoisonTest, ARetryPolicyOfMinusOneNeverGivesUp) {
  ASSERT_TRUE(h.Sync(&worker).ok());
  v1::CreateJobRequest request = MakeCreateRequest("a");
  request.mutable_job()->mutable_retry_policy()->set_max_retries(-1);
  const std::string a = h.Submit(request);
  for (int i = 0; i < 200; ++i) RestartWorker();
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  EXPECT_EQ(Status(a).attempt_count(), 201);
  EXPECT_EQ(Status(a).attempts_size(), 32);  // The last ones are shown.
  EXPECT_EQ(Status(a).attempts(31).lease_epoch(), 201);
}

TEST_F(ProtocolTest, ARetryKeepsTheJobsPlaceInTheQueue) {
  const std::string a = Run();
  h.Advance(absl::Seconds(1));
  const std::string b = h.Submit("b");
  ASSERT_TRUE(SayFailure("WORKER_ERROR", v1::Failure::PLATFORM).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(a).reason(), v1::BACKING_OFF);
  EXPECT_EQ(h.StateOfJob(b), v1::QUEUED);  // The worker is kept for a.
  h.Advance(h.options.retry_backoff_first);
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);  // Again, before b.
  EXPECT_EQ(Status(a).retries_used(), 1);
  EXPECT_EQ(Status(a).attempts(0).failure().code(), "WORKER_ERROR");
  EXPECT_EQ(h.StateOfJob(b), v1::QUEUED);
}

TEST_F(NoPoisonTest, AJobThatFailsAtOnceIsTriedLessAndLessOftenAndOthersGoOnMeanwhile) {
  ASSERT_TRUE(h.Sync(&worker).ok());
  v1::CreateJobRequest request = MakeCreateRequest("a");
  request.mutable_job()->mutable_retry_policy()->set_max_retries(-1);
  const std::string a = h.Submit(request);
  const auto fail = [&] {
    CHECK_EQ(h.StateOfJob(a), v1::RUNNING);
    CHECK(h.Sync(&worker).ok());
    held = worker.answer.assignments(0);
    CHECK(SayFailure("WORKER_ERROR", v1::Failure::PLATFORM).ok());
    CHECK_EQ(h.StateOfJob(a), v1::QUEUED);
  };
  std::string b;
  for (const int seconds : {1, 2, 4, 8}) {
    fail();
    if (seconds == 4) {
      b = h.Submit("b");
      EXPECT_EQ(h.StateOfJob(b), v1::RUNNING);  // Nobody waits so long for a.
      ASSERT_TRUE(h.Cancel(b).ok());
      ASSERT_TRUE(h.Sync(&worker).ok());
      held = worker.answer.assignments(0);
      ASSERT_TRUE(Say(kLeft).ok());
    }
    h.Advance(absl::Seconds(seconds) - absl::Milliseconds(1));
    EXPECT_EQ(h.StateOfJob(a), v1::QUEUED) << seconds;
    ASSERT_TRUE(h.Sync(&worker).ok());
    h.Advance(absl::Milliseconds(1));
    EXPECT_EQ(h.StateOfJob(a), v1::RUNNING) << seconds;
  }
  // A wait is over when the process is another, and has its bound.
  for (int i = 0; i < 10; ++i) {
    fail();
    h.Commit();
    h.Restart();
    ASSERT_TRUE(h.Sync(&worker).ok());
    for (int s = 0; s < 300 && h.StateOfJob(a) == v1::QUEUED; s += 10) {
      h.Advance(absl::Seconds(10));
      ASSERT_TRUE(h.Sync(&worker).ok());
    }
  }
}

TEST_F(ProtocolTest, ALostWorkerIsNoReasonToWait) {
  const std::string a = Run();
  FakeWorker other("other");
  LoseWorker();
  ASSERT_TRUE(h.Sync(&other).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
}

TEST_F(ProtocolTest, TheFirstAttemptFixesTheNumericsClassAndTheWaitingReasonSaysSo) {
  const std::string a = Run();
  EXPECT_EQ(Status(a).numerics_class(), "cpu-avx2-f32");
  ASSERT_TRUE(SayCheckpoint(10).ok());
  LoseWorker();
  FakeWorker other("other");
  other.environment.set_numerics_class("cpu-amx-f32");
  ASSERT_TRUE(h.Sync(&other).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::QUEUED);
  const v1::Waiting waiting = h.WaitingOf(a);
  EXPECT_EQ(waiting.reason(), v1::NO_WORKER_WITH_NUMERICS_CLASS);
  EXPECT_THAT(waiting.message(), HasSubstr("cpu-avx2-f32 (online: cpu-amx-f32)"));
  EXPECT_THAT(waiting.message(), HasSubstr("goes on elsewhere in 59m40s"));
}

TEST_F(ProtocolTest, WithPolicyAnyAJobGoesOnElsewhereAfterAnHourAndIsNoLongerExact) {
  const std::string a = Run();
  ASSERT_TRUE(SayCheckpoint(10).ok());
  FakeWorker other("other");
  other.environment.set_numerics_class("cpu-amx-f32");
  for (int minute = 0; minute < 60; ++minute) {
    ASSERT_TRUE(h.Sync(&other).ok());
    EXPECT_NE(h.Record(a).current().worker(), other.name) << minute;
    h.now += absl::Minutes(1);
  }
  ASSERT_TRUE(h.Sync(&other).ok());
  EXPECT_EQ(h.Record(a).current().worker(), other.name);
  EXPECT_FALSE(Status(a).exact());
  EXPECT_EQ(Status(a).numerics_class(), "cpu-amx-f32");
}

TEST_F(ProtocolTest, WithPolicyExactAJobWaitsForItsClassHoweverLong) {
  ASSERT_TRUE(h.Sync(&worker).ok());
  v1::CreateJobRequest request = MakeCreateRequest("a");
  request.mutable_job()->mutable_placement()->set_resume_policy(v1::Placement::EXACT);
  const std::string a = h.Submit(request);
  LoseWorker();
  h.now += absl::Hours(48);
  FakeWorker other("other");
  other.environment.set_numerics_class("cpu-amx-f32");
  ASSERT_TRUE(h.Sync(&other).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::QUEUED);
  EXPECT_THAT(h.WaitingOf(a).message(), HasSubstr("resume_policy is EXACT"));
}

TEST_F(ProtocolTest, EveryWaitingJobTellsWhyAndWhereItStands) {
  const std::string a = h.Submit("a");
  EXPECT_EQ(h.WaitingOf(a).reason(), v1::NO_WORKER_ONLINE);
  EXPECT_EQ(h.WaitingOf(a).queue_position(), 1);
  ASSERT_TRUE(h.Sync(&worker).ok());
  h.Advance(absl::Seconds(1));
  const std::string b = h.Submit("b");
  h.Advance(absl::Seconds(1));
  const std::string c = h.Submit("c");
  EXPECT_EQ(h.WaitingOf(b).reason(), v1::WORKERS_BUSY);
  EXPECT_EQ(h.WaitingOf(b).message(), "next in line; 1 worker would do, all busy");
  EXPECT_EQ(h.WaitingOf(c).reason(), v1::WAITING_FOR_TURN);
  EXPECT_EQ(h.WaitingOf(c).message(), "1 job is ahead; 1 worker would do, all busy");
  EXPECT_EQ(h.WaitingOf(c).queue_position(), 2);

  v1::CreateJobRequest picky = MakeCreateRequest("d");
  (*picky.mutable_job()->mutable_placement()->mutable_worker_labels())["zone"] = "b";
  const std::string d = h.Submit(picky);
  EXPECT_EQ(h.WaitingOf(d).reason(), v1::NO_WORKER_WITH_LABELS);
  EXPECT_THAT(h.WaitingOf(d).message(), HasSubstr("zone=b; 1 worker online"));
  EXPECT_FALSE(h.Record(a).job().status().has_waiting());
}

TEST_F(ProtocolTest, AJobThatFitsNoKnownWorkerFailsAtOnceAndSaysWhatWouldFit) {
  h.Advance(absl::Minutes(1));
  ASSERT_TRUE(h.Sync(&worker).ok());
  const std::string job = h.Execute(MakeCreateRequest("a"))->job;
  ValidationAnswer answer{.job = job, .response = MakeValidation()};
  answer.response.mutable_facts()->set_memory_bytes_max(int64_t{9} << 30);
  ASSERT_TRUE(h.Execute(answer).ok());
  h.Tick();
  EXPECT_EQ(h.StateOfJob(job), v1::FAILED);
  EXPECT_EQ(Status(job).failure().code(), "INFEASIBLE");
  EXPECT_THAT(Status(job).failure().message(), HasSubstr("want at most 8589934592"));
}

TEST_F(ProtocolTest, AndWhichMicroBatchWouldFitIfASmallerOneDoes) {
  h.Advance(absl::Minutes(1));
  worker.environment.set_memory_bytes((1 << 20) + (1 << 10) + 10 * (1 << 10) + 7);
  ASSERT_TRUE(h.Sync(&worker).ok());
  const std::string a = h.Submit(MakeCreateRequest("a"), MakeSharingFacts(64));
  EXPECT_EQ(h.StateOfJob(a), v1::FAILED);
  EXPECT_THAT(Status(a).failure().message(),
              HasSubstr("; micro_batch_tokens of at most 10 would fit"));
  worker.environment.set_memory_bytes(1 << 20);  // Not even the base.
  ASSERT_TRUE(h.Sync(&worker).ok());
  const std::string b = h.Submit(MakeCreateRequest("b"), MakeSharingFacts(64));
  EXPECT_THAT(Status(b).failure().message(), Not(HasSubstr("micro_batch_tokens")));
}

TEST_F(ProtocolTest, AJobMayAskForAWorkerWithMoreMemoryThanItNeeds) {
  worker.environment.set_memory_bytes(int64_t{2} << 30);
  ASSERT_TRUE(h.Sync(&worker).ok());
  v1::CreateJobRequest request = MakeCreateRequest("a");
  request.mutable_job()->mutable_placement()->set_memory_bytes_min((int64_t{2} << 30) + 1);
  // Refused for good once all workers had the time to report, explained before.
  const std::string job = h.Execute(request)->job;
  ASSERT_TRUE(h.Execute(ValidationAnswer{.job = job, .response = MakeValidation()}).ok());
  h.Tick();
  EXPECT_EQ(h.StateOfJob(job), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(job).reason(), v1::NO_WORKER_WITH_MEMORY);
  EXPECT_THAT(h.WaitingOf(job).message(), HasSubstr("asks for a worker with 2048 MiB"));

  h.Advance(absl::Minutes(2));
  ASSERT_TRUE(h.Sync(&worker).ok());
  request.set_job_id("b");
  request.mutable_job()->mutable_placement()->set_memory_bytes_min(int64_t{3} << 30);
  const std::string b = h.Submit(request, MakeValidation().facts());
  EXPECT_EQ(Status(b).failure().code(), "INFEASIBLE");
  EXPECT_THAT(Status(b).failure().message(),
              HasSubstr("placement.memory_bytes_min asks for 3221225472 bytes of memory on a "
                        "worker, want at most 2147483648"));
  request.set_job_id("c");
  request.mutable_job()->mutable_placement()->set_memory_bytes_min(int64_t{2} << 30);
  EXPECT_EQ(h.StateOfJob(h.Submit(request, MakeValidation().facts())), v1::RUNNING);
}

TEST_F(ProtocolTest, BeforeTheWorkersHadTimeToReportNoJobIsInfeasible) {
  ASSERT_TRUE(h.Sync(&worker).ok());
  const std::string job = h.Execute(MakeCreateRequest("a"))->job;
  ValidationAnswer answer{.job = job, .response = MakeValidation()};
  answer.response.mutable_facts()->set_memory_bytes_max(int64_t{9} << 30);
  ASSERT_TRUE(h.Execute(answer).ok());
  h.Tick();
  EXPECT_EQ(h.StateOfJob(job), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(job).reason(), v1::NO_WORKER_WITH_MEMORY);
}

}  // namespace
}  // namespace deltaworks::scheduler

// Leases, reports, orders and checkpoints: what a worker may do, and until when.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/job_record.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST_F(ProtocolTest, AReportWithASmallerNumberIsIgnored) {
  const std::string a = Run();
  const int64_t newest = worker.report_number;
  worker.report_number = newest - 2;
  EXPECT_TRUE(absl::IsAborted(Say(kLeft)));
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
}

TEST_F(ProtocolTest, TheSameReportAgainHasTheSameEffectOnce) {
  const std::string a = Run();
  ASSERT_TRUE(SayCheckpoint(40).ok());
  const size_t events = h.log.size();
  --worker.report_number;
  ASSERT_TRUE(SayCheckpoint(40).ok());
  EXPECT_EQ(h.log.size(), events);
  EXPECT_EQ(worker.answer.assignments(0).committed_step(), 40);
}

TEST_F(ProtocolTest, AnAttemptOfAnUnknownJobIsNotNamedSoAnEmptySchedulerStopsNobody) {
  const std::string a = Run();
  const std::vector<Event> kept = h.log;
  h.log.clear();
  h.Restart();
  ASSERT_TRUE(Say(kTraining).ok());
  EXPECT_THAT(worker.answer.assignments(), IsEmpty());
  h.log = kept;
  h.Restart();
  ASSERT_TRUE(Say(kTraining).ok());
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::RUN);
}

TEST_F(ProtocolTest, AReportMustMatchEpochAndIdAndWorkerAndIncarnation) {
  const std::string a = Run();
  FakeWorker liar("liar");
  (*liar.environment.mutable_labels())["x"] = "y";
  ASSERT_TRUE(h.Sync(&liar, {ResultReport()}).ok());
  EXPECT_EQ(liar.answer.assignments(0).desired(), v1::Assignment::STOP);
  v1::AttemptReport other_epoch = ResultReport();
  other_epoch.set_lease_epoch(2);
  v1::AttemptReport other_id = ResultReport();
  other_id.set_attempt_id("0123");
  ASSERT_TRUE(h.Sync(&worker, {other_epoch, other_id}).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
}

TEST_F(ProtocolTest, ASyncBeforeTheEndIsCommittedRenewsAndOneAfterItGetsStop) {
  const std::string a = Run();
  h.now += h.options.lease_duration + absl::Seconds(1);  // Nobody has acted on it yet.
  ASSERT_TRUE(Say(kTraining).ok());
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::RUN);

  LoseWorker();
  const v1::Assignment old = held;
  ASSERT_TRUE(h.Sync(&worker, {Harness::Report(old, kTraining, 1)}).ok());
  // Granted again, to the same worker, as another attempt; the old one is told to stop.
  ASSERT_EQ(worker.answer.assignments_size(), 2);
  EXPECT_EQ(worker.answer.assignments(0).lease_epoch(), 2);
  EXPECT_EQ(worker.answer.assignments(1).attempt_id(), old.attempt_id());
  EXPECT_EQ(worker.answer.assignments(1).desired(), v1::Assignment::STOP);
}

TEST_F(ProtocolTest, AfterTheEndIsCommittedTheAttemptGetsStopEvenIfNothingWasGrantedSince) {
  const std::string a = Run();
  LoseWorker();
  ASSERT_TRUE(h.Pause(a).ok());
  ASSERT_TRUE(Say(kTraining).ok());
  ASSERT_EQ(worker.answer.assignments_size(), 1);
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::STOP);
  EXPECT_FALSE(worker.answer.assignments(0).job_final());
}

TEST_F(ProtocolTest, ASchedulerThatStartsLetsNoLeaseEndBeforeOneFullLeaseAndThreeSeconds) {
  const std::string a = Run();
  h.now += h.options.lease_duration * 3;
  h.Restart();
  h.Advance(h.options.lease_duration + absl::Seconds(3) - absl::Milliseconds(1));
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  h.Advance(absl::Milliseconds(1));
  EXPECT_EQ(h.StateOfJob(a), v1::QUEUED);
}

TEST_F(ProtocolTest, AWorkerThatReportsAfterARestartOfTheSchedulerGoesOnWithTheSameAttempt) {
  const std::string a = Run();
  h.Restart();
  ASSERT_TRUE(Say(kTraining).ok());
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::RUN);
  EXPECT_EQ(worker.answer.assignments(0).attempt_id(), held.attempt_id());
  EXPECT_EQ(Status(a).retries_used(), 0);
  EXPECT_EQ(worker.answer.term(), 2);
}

TEST_F(ProtocolTest, AHigherIncarnationEndsTheLeasesOfTheLowerAtOnce) {
  const std::string a = Run();
  RestartWorker();
  EXPECT_EQ(Status(a).attempts(0).end(), v1::Attempt::WORKER_RESTARTED);
  EXPECT_EQ(Status(a).lease_epoch(), 2);
  EXPECT_EQ(held.lease_epoch(), 2);
  --worker.incarnation;
  worker.report_number = 100;
  EXPECT_TRUE(absl::IsFailedPrecondition(Say(kTraining)));
}

TEST_F(ProtocolTest, AnAttemptThatNoReportListsForTwoLeasesIsLostAlsoIfItsWorkerKeepsTalking) {
  ASSERT_TRUE(h.Sync(&worker).ok());
  const std::string a = h.Submit("a");
  const absl::Time granted = h.now;
  while (Status(a).lease_epoch() == 1) {
    ASSERT_LT(h.now, granted + h.options.lease_duration * 2);
    h.now += h.options.lease_duration / 4;
    ASSERT_TRUE(h.Sync(&worker).ok());
  }
  EXPECT_EQ(Status(a).attempts(0).end(), v1::Attempt::LEASE_ENDED);
}

TEST_F(ProtocolTest, AYieldIsRenewedForItsGraceAndThenBecomesStop) {
  const std::string a = Run();
  ASSERT_TRUE(h.Pause(a).ok());
  const absl::Time ordered = h.now;
  while (h.StateOfJob(a) == v1::PAUSING) {
    h.now += absl::Seconds(5);
    ASSERT_LT(h.now, ordered + absl::Minutes(5));
    ASSERT_TRUE(Say(kTraining).ok());
  }
  EXPECT_EQ(h.now - ordered, h.options.yield_grace - absl::Seconds(5) + h.options.lease_duration);
  EXPECT_EQ(h.StateOfJob(a), v1::PAUSED);
}

TEST_F(ProtocolTest, ASlotIsGivenOnOnlyAfterTheWorkerLeftOrItsLeaseEnded) {
  const std::string a = Run();
  const std::string b = h.Submit("b");
  ASSERT_TRUE(h.Pause(a).ok());
  EXPECT_EQ(h.StateOfJob(b), v1::QUEUED);
  ASSERT_TRUE(Say(kLeft).ok());
  EXPECT_EQ(h.StateOfJob(b), v1::RUNNING);
}

TEST_F(ProtocolTest, ADrainingWorkerYieldsItsJobsAndGetsNoOthersAndItCostsNothing) {
  const std::string a = Run();
  const std::string b = h.Submit("b");
  worker.draining = true;
  ASSERT_TRUE(Say(kTraining).ok());
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::YIELD);
  ASSERT_TRUE(SayCheckpoint(12, kLeft).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::QUEUED);
  EXPECT_EQ(Status(a).reason(), v1::DRAINED);
  EXPECT_EQ(Status(a).retries_used(), 0);
  EXPECT_EQ(h.StateOfJob(b), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(b).reason(), v1::NO_WORKER_ONLINE);
}

TEST_F(ProtocolTest, CheckpointsAreCommittedWithGrowingStepFromTheCurrentAttemptOnly) {
  const std::string a = Run();
  ASSERT_TRUE(SayCheckpoint(40).ok());
  ASSERT_TRUE(SayCheckpoint(30).ok());
  EXPECT_EQ(Status(a).checkpoint().step(), 40);
  ASSERT_TRUE(SayCheckpoint(101).ok());  // The job has 100 steps.
  EXPECT_EQ(Status(a).checkpoint().step(), 40);
  const v1::Assignment old = held;
  LoseWorker();
  ASSERT_TRUE(h.Sync(&worker).ok());
  held = old;
  ASSERT_TRUE(SayCheckpoint(50).ok());
  EXPECT_EQ(Status(a).checkpoint().step(), 40);
}

TEST_F(ProtocolTest, TheLastTwoCheckpointsAreNeededAndOlderOnesMayGo) {
  const std::string a = Run();
  for (const int64_t step : {10, 20, 30}) ASSERT_TRUE(SayCheckpoint(step).ok());
  EXPECT_THAT(NeededDigests(h.Record(a)), ElementsAre(FakeDigest(20), FakeDigest(30)));
  ASSERT_TRUE(SayResult().ok());
  EXPECT_THAT(NeededDigests(h.Record(a)),
              ElementsAre(FakeDigest(20), FakeDigest(30), FakeDigest(77)));
  h.AnswerVersion(a);  // Now the version pins the result.
  EXPECT_THAT(NeededDigests(h.Record(a)), ElementsAre(FakeDigest(20), FakeDigest(30)));
}

TEST_F(ProtocolTest, ACancellingJobCommitsNoCheckpoint) {
  const std::string a = Run();
  ASSERT_TRUE(h.Cancel(a).ok());
  ASSERT_TRUE(SayCheckpoint(40).ok());
  EXPECT_FALSE(Status(a).has_checkpoint());
}

}  // namespace
}  // namespace deltaworks::scheduler

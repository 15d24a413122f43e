// Durable first: what happens between fold and commit, when a commit fails, and while nothing is
// loaded.

#include "scheduler/scheduler.h"

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"

namespace deltaworks::scheduler {
namespace {

constexpr auto kTraining = v1::AttemptReport::TRAINING;

class SchedulerTest : public ::testing::Test {
 protected:
  // A job that `worker` runs; everything committed.
  std::string Run() {
    CHECK(h.Sync(&worker).ok());
    const std::string job = h.Submit("a");
    CHECK(h.Sync(&worker).ok());
    held = worker.answer.assignments(0);
    CHECK(Say().ok());
    return job;
  }

  absl::Status Say() { return h.Sync(&worker, {Harness::Report(held, kTraining, 1)}); }

  Harness h;
  FakeWorker worker{"w"};
  v1::Assignment held;
};

TEST_F(SchedulerTest, APositionCountsTheEventsThatMustBeStoredFirst) {
  const int64_t before = h.scheduler->state()->event_count();
  const auto created = h.Execute(MakeCreateRequest("a"));
  ASSERT_TRUE(created.ok());
  EXPECT_EQ(created->position, before + 1);
  EXPECT_EQ(h.scheduler->TakeEvents().size(), 1);
  EXPECT_TRUE(h.scheduler->TakeEvents().empty());
}

TEST_F(SchedulerTest, AGrantHasADeadlineOnlyFromItsCommitOn) {
  ASSERT_TRUE(h.Sync(&worker).ok());
  ASSERT_TRUE(h.Execute(MakeCreateRequest("a")).ok());
  ASSERT_TRUE(h.Execute(ValidationAnswer{JobName("a"), MakeValidation()}).ok());
  h.scheduler->Tick(h.now, [] { return uint64_t{7}; });
  ASSERT_EQ(h.StateOfJob(JobName("a")), v1::RUNNING);
  EXPECT_EQ(h.scheduler->leases().size(), 0);
  h.now += absl::Hours(1);  // A commit that takes its time.
  h.Commit();
  EXPECT_EQ(h.scheduler->leases().NextDeadline(), h.now + h.options.lease_duration);
}

TEST_F(SchedulerTest, AFailedCommitLosesWhatWasFoldedAndNothingElse) {
  const std::string a = Run();
  ASSERT_TRUE(h.Execute(MakeCreateRequest("b")).ok());
  v1::CancelJobRequest cancel;
  cancel.set_name(a);
  ASSERT_TRUE(h.Execute(cancel).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::CANCELLING);

  h.Reload();

  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  EXPECT_EQ(h.scheduler->state()->FindJob(JobName("b")), nullptr);
  ASSERT_TRUE(Say().ok());
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::RUN);
  EXPECT_EQ(worker.answer.term(), 1);  // A reload is no start.
}

TEST_F(SchedulerTest, DeadlinesSurviveAReload) {
  Run();
  const absl::Time deadline = h.scheduler->leases().NextDeadline();
  h.now += absl::Seconds(10);
  h.Reload();
  EXPECT_EQ(h.scheduler->leases().NextDeadline(), deadline);
}

TEST_F(SchedulerTest, WhileItCannotLoadSyncRenewsTheLastCommittedAttemptsAndAllElseIsUnavailable) {
  const std::string a = Run();
  h.scheduler->Unload();
  EXPECT_TRUE(absl::IsUnavailable(h.Execute(MakeCreateRequest("b")).status()));
  for (int i = 0; i < 12; ++i) {  // A minute without a database.
    h.now += absl::Seconds(5);
    ASSERT_TRUE(Say().ok());
    ASSERT_EQ(worker.answer.assignments_size(), 1);
    EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::RUN);
  }
  v1::AttemptReport unknown = Harness::Report(held, kTraining, 1);
  unknown.set_attempt_id("another");
  ASSERT_TRUE(h.Sync(&worker, {unknown}).ok());
  EXPECT_EQ(worker.answer.assignments_size(), 0);

  h.Reload();
  h.Tick();
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  EXPECT_EQ(h.Record(a).current().attempt_id(), held.attempt_id());
}

TEST_F(SchedulerTest, AnOrderThatWasCommittedHoldsWhileNothingIsLoaded) {
  const std::string a = Run();
  ASSERT_TRUE(h.Cancel(a).ok());
  h.scheduler->Unload();
  ASSERT_TRUE(Say().ok());
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::STOP);
}

TEST_F(SchedulerTest, TheTermGrowsWithEveryStartAndAlsoIfTheCommitOfTheStartFailed) {
  EXPECT_EQ(h.scheduler->state()->term(), 1);
  h.Restart();
  EXPECT_EQ(h.scheduler->state()->term(), 2);
  h.log.pop_back();  // The commit of the start was lost.
  h.Reload();
  EXPECT_EQ(h.scheduler->state()->term(), 2);
  EXPECT_EQ(h.log.size(), 2);
}

TEST_F(SchedulerTest, AnAnswerThatSaysNothingNewKeepsItsRevision) {
  Run();
  ASSERT_TRUE(Say().ok());
  const int64_t revision = worker.answer.revision();
  ASSERT_TRUE(Say().ok());
  EXPECT_EQ(worker.answer.revision(), revision);
  ASSERT_TRUE(h.Pause(JobName("a")).ok());
  ASSERT_TRUE(Say().ok());
  EXPECT_GT(worker.answer.revision(), revision);
}

TEST_F(SchedulerTest, ASnapshotAndTheEventsAfterItGiveTheSameStateAsAllEvents) {
  const std::string a = Run();
  const Snapshot snapshot = h.scheduler->state()->ToSnapshot();
  const size_t events = h.log.size();
  ASSERT_TRUE(h.Pause(a).ok());
  h.Submit("b");

  auto state = State::FromSnapshot(snapshot, h.options);
  ASSERT_TRUE(state.ok()) << state.status();
  for (size_t i = events; i < h.log.size(); ++i) ASSERT_TRUE((*state)->Fold(h.log[i]).ok());
  EXPECT_EQ(DeterministicBytes((*state)->ToSnapshot()), h.LiveBytes());
}

TEST_F(SchedulerTest, DamagedEventsAreDataLossAndSayWhich) {
  Run();
  State state(h.options);
  ASSERT_TRUE(state.Fold(h.log[0]).ok());
  ASSERT_TRUE(state.Fold(h.log[1]).ok());
  const absl::Status gap = state.Fold(h.log[3]);
  EXPECT_TRUE(absl::IsDataLoss(gap)) << gap;

  State past(h.options);
  ASSERT_TRUE(past.Fold(h.log[0]).ok());
  Event early = h.log[1];
  early.mutable_time()->set_seconds(5);
  EXPECT_TRUE(absl::IsDataLoss(past.Fold(early)));
}

TEST_F(SchedulerTest, TimeInTheStateNeverGoesBack) {
  h.Submit("a");
  h.now -= absl::Hours(1);  // The clock of a new machine.
  h.Restart();
  h.Submit("b");
  EXPECT_GE(FromProto(h.Record(JobName("b")).job().create_time()),
            FromProto(h.Record(JobName("a")).job().create_time()));
}

}  // namespace
}  // namespace deltaworks::scheduler

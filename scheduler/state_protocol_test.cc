// The states of a job: who moves it, and every race between pause, cancel, result and loss.

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/proto_time.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST_F(ProtocolTest, AJobGoesFromValidatingToSucceeded) {
  ASSERT_TRUE(h.Sync(&worker).ok());
  const auto created = h.Execute(MakeCreateRequest("a"));
  ASSERT_TRUE(created.ok());
  h.Tick();
  EXPECT_EQ(h.StateOfJob(created->job), v1::VALIDATING);
  EXPECT_THAT(h.scheduler->state()->validating(), ElementsAre(created->job));
  ASSERT_TRUE(h.Execute(ValidationAnswer{created->job, MakeValidation()}).ok());
  EXPECT_EQ(h.StateOfJob(created->job), v1::QUEUED);
  h.Tick();
  EXPECT_EQ(h.StateOfJob(created->job), v1::RUNNING);
  ASSERT_TRUE(h.Sync(&worker).ok());
  held = worker.answer.assignments(0);
  EXPECT_EQ(held.train().facts().total_steps(), 100);
  ASSERT_TRUE(SayResult().ok());
  EXPECT_EQ(h.StateOfJob(created->job), v1::FINALIZING);
  EXPECT_THAT(h.WantVersions(), ElementsAre(created->job));
  h.AnswerVersion(created->job);
  EXPECT_EQ(h.StateOfJob(created->job), v1::SUCCEEDED);
  EXPECT_EQ(Status(created->job).result().version(), "tenants/t/adapters/a/versions/1");
  EXPECT_EQ(Status(created->job).attempts(0).end(), v1::Attempt::COMPLETED);
}

TEST_F(ProtocolTest, AJobThatDoesNotPassValidationFailsWithFieldAndFault) {
  const auto created = h.Execute(MakeCreateRequest("a"));
  ValidationAnswer answer{.job = created->job};
  answer.response.mutable_failure()->set_code("DATASET_INVALID");
  answer.response.mutable_failure()->set_field("train.dataset");
  answer.response.mutable_failure()->set_message("line 7 is not JSON");
  answer.response.mutable_failure()->set_fault(v1::Failure::USER);
  ASSERT_TRUE(h.Execute(answer).ok());
  h.Tick();
  EXPECT_EQ(h.StateOfJob(created->job), v1::FAILED);
  EXPECT_EQ(Status(created->job).failure().field(), "train.dataset");
  EXPECT_EQ(Status(created->job).failure().fault(), v1::Failure::USER);
  EXPECT_TRUE(h.Record(created->job).job().has_end_time());
}

TEST_F(ProtocolTest, AQueuedJobIsPausedAtOnceAndResumedToItsOldPlace) {
  const std::string a = h.Submit("a");
  h.Advance(absl::Seconds(1));
  const std::string b = h.Submit("b");
  ASSERT_TRUE(h.Pause(a).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::PAUSED);
  EXPECT_EQ(h.WaitingOf(b).queue_position(), 1);
  ASSERT_TRUE(h.Resume(a).ok());
  EXPECT_EQ(h.WaitingOf(a).queue_position(), 1);
  EXPECT_EQ(h.WaitingOf(b).queue_position(), 2);
}

TEST_F(ProtocolTest, ARunningJobIsPausedAfterItsCheckpointAndGoesOnFromThere) {
  const std::string a = Run();
  ASSERT_TRUE(h.Pause(a).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::PAUSING);
  ASSERT_TRUE(Say(kTraining).ok());
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::YIELD);
  EXPECT_EQ(FromProto(worker.answer.assignments(0).yield_grace()), absl::Seconds(60));
  ASSERT_TRUE(SayCheckpoint(40, kLeft).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::PAUSED);
  EXPECT_EQ(Status(a).checkpoint().step(), 40);

  ASSERT_TRUE(h.Resume(a).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  ASSERT_TRUE(h.Sync(&worker).ok());
  EXPECT_EQ(worker.answer.assignments(0).train().start_checkpoint().step(), 40);
  EXPECT_EQ(worker.answer.assignments(0).train().start_checkpoint().manifest_digest(),
            FakeDigest(40));
}

TEST_F(ProtocolTest, APausingJobWhoseWorkerIsLostIsPausedAtTheLastCheckpoint) {
  const std::string a = Run();
  ASSERT_TRUE(SayCheckpoint(40).ok());
  ASSERT_TRUE(h.Pause(a).ok());
  LoseWorker();
  EXPECT_EQ(h.StateOfJob(a), v1::PAUSED);
  EXPECT_EQ(Status(a).checkpoint().step(), 40);
  EXPECT_EQ(Status(a).reason(), v1::WORKER_LOST);
}

TEST_F(ProtocolTest, AResultBeatsThePause) {
  const std::string a = Run();
  ASSERT_TRUE(h.Pause(a).ok());
  ASSERT_TRUE(SayResult().ok());
  EXPECT_EQ(h.StateOfJob(a), v1::FINALIZING);
}

TEST_F(ProtocolTest, AResultReportedInCancellingIsDiscarded) {
  const std::string a = Run();
  ASSERT_TRUE(h.Cancel(a).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::CANCELLING);
  ASSERT_TRUE(SayResult().ok());
  EXPECT_EQ(h.StateOfJob(a), v1::CANCELLED);
  EXPECT_FALSE(Status(a).has_result());
  EXPECT_FALSE(worker.answer.assignments(0).result_accepted());
  EXPECT_TRUE(worker.answer.assignments(0).job_final());
  EXPECT_THAT(h.WantVersions(), IsEmpty());
}

TEST_F(ProtocolTest, ACancelledJobLeavesWhenItsWorkerSaysSo) {
  const std::string a = Run();
  ASSERT_TRUE(h.Cancel(a).ok());
  ASSERT_TRUE(Say(kTraining).ok());
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::STOP);
  ASSERT_TRUE(Say(kLeft).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::CANCELLED);
}

TEST_F(ProtocolTest, ACancelledJobLeavesWhenItsLeaseEndsAlsoIfItsWorkerKeepsTalking) {
  const std::string a = Run();
  ASSERT_TRUE(h.Cancel(a).ok());
  for (int i = 0; i < 4; ++i) {
    h.now += h.options.lease_duration / 4;
    ASSERT_TRUE(Say(kTraining).ok());  // STOP does not renew.
  }
  EXPECT_EQ(h.StateOfJob(a), v1::CANCELLED);
}

TEST_F(ProtocolTest, WaitingAndPausedJobsAreCancelledAtOnce) {
  const std::string queued = h.Submit("queued");
  const std::string paused = h.Submit("paused");
  ASSERT_TRUE(h.Pause(paused).ok());
  const std::string validating = h.Execute(MakeCreateRequest("validating"))->job;
  for (const std::string& job : {queued, paused, validating}) {
    ASSERT_TRUE(h.Cancel(job).ok());
    EXPECT_EQ(h.StateOfJob(job), v1::CANCELLED) << job;
  }
}

TEST_F(ProtocolTest, FinalizingIsThePointOfNoReturn) {
  const std::string a = Run();
  ASSERT_TRUE(SayResult().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(h.Cancel(a)));
  EXPECT_TRUE(absl::IsFailedPrecondition(h.Pause(a)));
  EXPECT_EQ(h.StateOfJob(a), v1::FINALIZING);
  EXPECT_EQ(h.scheduler->leases().size(), 0);  // The lease is free.
}

TEST_F(ProtocolTest, WhatIsSoAlreadySucceedsAndWhatCannotBeIsRefusedNamingTheState) {
  const std::string a = Run();
  EXPECT_TRUE(h.Resume(a).ok());  // It runs.
  ASSERT_TRUE(h.Pause(a).ok());
  EXPECT_TRUE(h.Pause(a).ok());
  EXPECT_EQ(h.Resume(a).message(), "tenants/t/jobs/a is PAUSING, want PAUSED to resume it");
  ASSERT_TRUE(h.Cancel(a).ok());
  EXPECT_TRUE(h.Cancel(a).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(h.Pause(a)));
  EXPECT_TRUE(absl::IsNotFound(h.Cancel("tenants/t/jobs/other")));
}

TEST_F(ProtocolTest, AnErrorOfTheUserFailsTheJobAtOnceAlsoWhilePausing) {
  const std::string a = Run();
  ASSERT_TRUE(h.Pause(a).ok());
  ASSERT_TRUE(SayFailure("DIVERGED", v1::Failure::USER).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::FAILED);
  EXPECT_EQ(Status(a).failure().code(), "DIVERGED");
}

}  // namespace
}  // namespace deltaworks::scheduler

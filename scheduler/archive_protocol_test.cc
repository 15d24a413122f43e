// Jobs that ended leave the state; whoever asks for them finds them as they were.

#include <string>

#include "gmock/gmock.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::HasSubstr;

class ArchiveProtocolTest : public ProtocolTest {
 protected:
  // A job that was created with a request id and cancelled.
  std::string Cancelled(const std::string& id) {
    const std::string job = h.Submit(Create(id));
    CHECK(h.Cancel(job).ok());
    return job;
  }

  static v1::CreateJobRequest Create(const std::string& id) {
    v1::CreateJobRequest request = MakeCreateRequest(id);
    request.set_request_id("create-" + id);
    return request;
  }

  static v1::DeleteJobRequest Delete(const std::string& job) {
    v1::DeleteJobRequest request;
    request.set_name(job);
    request.set_request_id("delete");
    return request;
  }

  bool IsInState(const std::string& job) const {
    return h.scheduler->state()->FindJob(job) != nullptr;
  }
  std::shared_ptr<const JobRecord> Archived(const std::string& job) {
    const auto archived = h.archive.FindArchived(job);
    CHECK(archived.ok());
    return archived->has_value() ? (*archived)->record : nullptr;
  }
};

TEST_F(ArchiveProtocolTest, AnEndedJobLeavesTheStateAfterAWhile) {
  const std::string job = Cancelled("a");
  const std::string waits = h.Submit("b");
  const std::string before = DeterministicBytes(h.Record(job));
  h.Advance(h.options.archive_after - absl::Seconds(1));
  EXPECT_TRUE(IsInState(job));
  h.Advance(absl::Seconds(1));
  EXPECT_FALSE(IsInState(job));
  EXPECT_TRUE(IsInState(waits));
  EXPECT_TRUE(h.scheduler->state()->ended().empty());
  EXPECT_EQ(h.scheduler->state()->AgesOf("t").size(), 1U);
  ASSERT_NE(Archived(job), nullptr);
  EXPECT_EQ(DeterministicBytes(*Archived(job)), before);
  EXPECT_EQ(h.LiveBytes(), h.ReplayedBytes());
}

TEST_F(ArchiveProtocolTest, ManyAreArchivedSomeAtATime) {
  for (int i = 0; i < Scheduler::kArchivesMax + 1; ++i) Cancelled("job-" + std::to_string(i));
  h.Advance(h.options.archive_after);
  EXPECT_EQ(h.scheduler->state()->jobs().size(), 1U);
  h.Tick();
  EXPECT_TRUE(h.scheduler->state()->jobs().empty());
}

TEST_F(ArchiveProtocolTest, ARepeatedRequestFindsItsArchivedJob) {
  const std::string job = Cancelled("a");
  h.Advance(h.options.archive_after);
  const size_t events = h.log.size();
  EXPECT_EQ(h.Execute(Create("a"))->job, job);
  v1::CreateJobRequest other = Create("a");
  other.set_job_id("c");
  EXPECT_TRUE(absl::IsAlreadyExists(h.Execute(other).status()));
  other.set_request_id("other");
  other.set_job_id("a");
  const absl::Status taken = h.Execute(other).status();
  EXPECT_TRUE(absl::IsAlreadyExists(taken));
  EXPECT_THAT(std::string(taken.message()), HasSubstr("exists already"));
  h.Commit();
  EXPECT_EQ(h.log.size(), events);
}

TEST_F(ArchiveProtocolTest, AnArchivedJobAnswersAsAnEndedOne) {
  const std::string job = Cancelled("a");
  h.Advance(h.options.archive_after);
  EXPECT_TRUE(h.Cancel(job).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(h.Pause(job)));
  EXPECT_TRUE(absl::IsFailedPrecondition(h.Resume(job)));
  EXPECT_TRUE(absl::IsNotFound(h.Cancel(JobName("absent"))));
  EXPECT_FALSE(IsInState(job));
}

TEST_F(ArchiveProtocolTest, AnArchivedJobIsRerunAndMayBeAParent) {
  const std::string job = Cancelled("a");
  h.Advance(h.options.archive_after);
  v1::RerunJobRequest rerun;
  rerun.set_name(job);
  const auto again = h.Execute(rerun);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(h.Record(again->job).job().parent_job(), job);
  EXPECT_EQ(h.Record(again->job).job().train().dataset(), Archived(job)->job().train().dataset());
}

TEST_F(ArchiveProtocolTest, AWorkerThatWasAwayIsToldThatItsJobIsOver) {
  const std::string job = Run();
  ASSERT_TRUE(SayResult().ok());
  h.AnswerVersion(job);
  h.Advance(h.options.archive_after);
  ASSERT_FALSE(IsInState(job));
  ASSERT_TRUE(SayResult().ok());
  ASSERT_EQ(worker.answer.assignments_size(), 1);
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::STOP);
  EXPECT_TRUE(worker.answer.assignments(0).job_final());
  EXPECT_TRUE(worker.answer.assignments(0).result_accepted());

  ASSERT_TRUE(h.Execute(Delete(job)).ok());
  h.Tick();
  ASSERT_TRUE(SayResult().ok());
  ASSERT_EQ(worker.answer.assignments_size(), 1);
  EXPECT_EQ(worker.answer.assignments(0).desired(), v1::Assignment::STOP);
  EXPECT_TRUE(worker.answer.assignments(0).job_final());
}

TEST_F(ArchiveProtocolTest, ADeletedJobIsGoneAndItsNameIsNotUsedAgain) {
  const std::string job = Cancelled("a");
  ASSERT_TRUE(h.Execute(Delete(job)).ok());  // Archived on the way.
  // Not committed yet, and seen already.
  const auto repeated = h.Execute(Delete(job));
  ASSERT_TRUE(repeated.ok()) << repeated.status();
  EXPECT_EQ(repeated->job, job);
  for (bool committed : {false, true}) {
    if (committed) h.Commit();
    EXPECT_FALSE(IsInState(job));
    const absl::Status gone = h.Cancel(job);
    EXPECT_TRUE(absl::IsNotFound(gone));
    EXPECT_THAT(std::string(gone.message()), HasSubstr("was deleted"));
    v1::CreateJobRequest again = MakeCreateRequest("a");
    const absl::Status taken = h.Execute(again).status();
    EXPECT_TRUE(absl::IsAlreadyExists(taken));
    EXPECT_THAT(std::string(taken.message()), HasSubstr("was deleted"));
    // Who created it and repeats that makes no second one.
    EXPECT_EQ(h.Execute(Create("a"))->job, job);
  }
  v1::DeleteJobRequest other = Delete(job);
  other.set_request_id("other");
  EXPECT_TRUE(absl::IsNotFound(h.Execute(other).status()));
}

TEST_F(ArchiveProtocolTest, ADeletionThatWasNotCommittedLeavesTheJob) {
  const std::string job = Cancelled("a");
  ASSERT_TRUE(h.Execute(Delete(job)).ok());
  h.Reload();
  EXPECT_TRUE(IsInState(job));
  ASSERT_TRUE(h.Execute(Delete(job)).ok());
  h.Commit();
  EXPECT_FALSE(IsInState(job));
}

TEST_F(ArchiveProtocolTest, AJobThatHasNotEndedIsNotDeleted) {
  const std::string job = h.Submit("a");
  const absl::Status refused = h.Execute(Delete(job)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("cancel it first"));
  EXPECT_TRUE(IsInState(job));
}

TEST_F(ArchiveProtocolTest, WhatIsTooOldIsDropped) {
  const std::string job = Cancelled("a");
  ASSERT_TRUE(h.Execute(DropJob{job}).ok());  // Not archived yet: nothing.
  EXPECT_TRUE(IsInState(job));
  h.Advance(h.options.archive_after);
  ASSERT_TRUE(h.Execute(DropJob{job}).ok());
  ASSERT_TRUE(h.Execute(DropJob{job}).ok());
  h.Commit();
  EXPECT_TRUE(h.log.back().has_job_deleted());
  EXPECT_FALSE((h.log.end() - 2)->has_job_deleted());
  EXPECT_TRUE(absl::IsNotFound(h.Cancel(job)));
}

}  // namespace
}  // namespace deltaworks::scheduler

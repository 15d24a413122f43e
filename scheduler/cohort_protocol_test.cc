// Jobs that train together on one worker: who joins, who waits, who is not kept waiting by whom,
// and whose device time it was.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::HasSubstr;

class CohortTest : public ProtocolTest {
 protected:
  CohortTest() { CHECK(h.Sync(&worker).ok()); }

  // A job of `tokens` a step that shares, on base number `base`.
  std::string SubmitSharing(const std::string& id, int64_t tokens = 64, int64_t base = 1) {
    v1::TrainFacts facts = MakeSharingFacts(tokens);
    facts.set_base_manifest_digest(FakeDigest(base));
    h.now += absl::Seconds(1);
    return h.Submit(MakeCreateRequest(id), facts);
  }

  // What `w` was last told to hold, each attempt as it says it.
  std::vector<v1::AttemptReport> Reports(const FakeWorker& w, v1::AttemptReport::Phase phase) {
    std::vector<v1::AttemptReport> reports;
    for (const v1::Assignment& assignment : w.answer.assignments()) {
      reports.push_back(Harness::Report(assignment, phase, 1));
    }
    return reports;
  }

  std::string WorkerOf(const std::string& job) { return h.Record(job).current().worker(); }
};

TEST_F(CohortTest, JobsOfOneBaseTrainTogetherAndOthersWaitForAnEmptyWorker) {
  const std::string a = SubmitSharing("a");
  const std::string b = SubmitSharing("b", 128);
  const std::string other = SubmitSharing("other", 64, /*base=*/2);
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  EXPECT_EQ(h.StateOfJob(b), v1::RUNNING);
  EXPECT_FALSE(h.Record(a).current().alone());
  EXPECT_EQ(h.StateOfJob(other), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(other).reason(), v1::WORKERS_BUSY);
}

TEST_F(CohortTest, AnEmptyWorkerIsBetterThanCompany) {
  FakeWorker second("x");
  ASSERT_TRUE(h.Sync(&second).ok());
  const std::string a = SubmitSharing("a");
  const std::string b = SubmitSharing("b", 128);
  const std::string c = SubmitSharing("c");
  EXPECT_NE(WorkerOf(a), WorkerOf(b));
  EXPECT_EQ(WorkerOf(c), WorkerOf(a));  // The shorter pass.
}

TEST_F(CohortTest, NobodyJoinsTheWorkerThatAnEarlierJobWaitsFor) {
  const std::string a = SubmitSharing("a");
  const std::string other = SubmitSharing("other", 64, /*base=*/2);
  const std::string late = SubmitSharing("late");
  EXPECT_EQ(h.StateOfJob(late), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(late).reason(), v1::WORKERS_HELD);
  EXPECT_THAT(h.WaitingOf(late).message(), HasSubstr("kept for jobs ahead"));

  ASSERT_TRUE(h.Sync(&worker).ok());
  ASSERT_TRUE(h.Sync(&worker, Reports(worker, kTraining)).ok());
  ASSERT_TRUE(h.Cancel(a).ok());
  ASSERT_TRUE(h.Sync(&worker, Reports(worker, kLeft)).ok());
  EXPECT_EQ(h.StateOfJob(other), v1::RUNNING);
  EXPECT_EQ(h.StateOfJob(late), v1::QUEUED);
}

TEST_F(CohortTest, AnotherWorkerGoesOnTakingJobsMeanwhile) {
  FakeWorker second("x");
  ASSERT_TRUE(h.Sync(&second).ok());
  const std::string a = SubmitSharing("a");
  const std::string b = SubmitSharing("b");
  const std::string other = SubmitSharing("other", 64, /*base=*/2);
  const std::string late = SubmitSharing("late");
  EXPECT_EQ(h.StateOfJob(other), v1::QUEUED);
  EXPECT_EQ(h.StateOfJob(late), v1::RUNNING);
}

TEST_F(CohortTest, TheWorkerThatIsKeptIsTheOneThatWillBeEmptySoonest) {
  FakeWorker second("x");
  ASSERT_TRUE(h.Sync(&second).ok());
  v1::TrainFacts longer = MakeSharingFacts(64);
  longer.set_total_steps(1'000);
  const std::string a = h.Submit(MakeCreateRequest("a"), longer);
  const std::string b = SubmitSharing("b");
  SubmitSharing("other", 64, /*base=*/2);
  EXPECT_EQ(WorkerOf(SubmitSharing("late")), WorkerOf(a));
}

TEST_F(CohortTest, AWorkersOwnMeasureSaysWhetherJoiningPays) {
  // At 2,048 tokens a pass saves 3 % with an overhead of 64 tokens.
  const std::string a = SubmitSharing("a", 2048);
  const std::string b = SubmitSharing("b", 2048);
  EXPECT_EQ(h.StateOfJob(b), v1::QUEUED);
  worker.pass_times.emplace_back().set_base_manifest_digest(FakeDigest(1));
  worker.pass_times.back().set_fixed_seconds(0.3);
  worker.pass_times.back().set_seconds_per_token(0.001);
  worker.pass_times.back().set_compute_type(v1::BF16);  // Not that of these jobs.
  ASSERT_TRUE(h.Sync(&worker).ok());
  EXPECT_EQ(h.StateOfJob(b), v1::QUEUED);
  worker.pass_times.back().set_compute_type(v1::NUMBER_TYPE_UNSPECIFIED);
  ASSERT_TRUE(h.Sync(&worker).ok());
  EXPECT_EQ(h.StateOfJob(b), v1::RUNNING);
}

TEST_F(CohortTest, AJobThatMustRunAloneGetsAnEmptyWorkerThoughOthersWouldJoinForEver) {
  const std::string a = SubmitSharing("a");
  v1::CreateJobRequest request = MakeCreateRequest("alone");
  request.mutable_job()->mutable_placement()->set_cohort(v1::Placement::COHORT_ALONE);
  h.now += absl::Seconds(1);
  const std::string alone = h.Submit(request, MakeSharingFacts(64));
  EXPECT_EQ(h.WaitingOf(alone).reason(), v1::WAITING_FOR_EMPTY_WORKER);
  EXPECT_EQ(h.WaitingOf(alone).message(), "shares no worker; 1 worker would do, none is empty");
  const std::string late = SubmitSharing("late");
  ASSERT_TRUE(h.Sync(&worker).ok());
  ASSERT_TRUE(h.Sync(&worker, Reports(worker, kTraining)).ok());
  ASSERT_TRUE(h.Cancel(a).ok());
  ASSERT_TRUE(h.Sync(&worker, Reports(worker, kLeft)).ok());
  EXPECT_EQ(h.StateOfJob(alone), v1::RUNNING);
  EXPECT_TRUE(h.Record(alone).current().alone());
  EXPECT_EQ(h.StateOfJob(late), v1::QUEUED);
}

TEST_F(CohortTest, AfterTwoDeathsInCompanyAJobRunsAlone) {
  const std::string a = SubmitSharing("a");
  const std::string b = SubmitSharing("b");
  RestartWorker();
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  RestartWorker();
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  EXPECT_TRUE(h.Record(a).current().alone());
  EXPECT_EQ(h.StateOfJob(b), v1::QUEUED);
}

TEST_F(CohortTest, ForOneThatIsAheadOnlyAsManyLeaveAsMustAndNobodySlipsIn) {
  // 64 + 896 tokens: one of 64 more would be 8 times slower.
  v1::CreateJobRequest low = MakeCreateRequest("low");
  low.mutable_job()->set_priority_class(v1::LOW);
  const std::string large = h.Submit(low, MakeSharingFacts(768));
  low.set_job_id("low2");
  const std::string small = h.Submit(low, MakeSharingFacts(64));
  ASSERT_EQ(h.StateOfJob(small), v1::RUNNING);
  ASSERT_TRUE(h.Sync(&worker).ok());
  for (int i = 0; i < 5; ++i) {
    h.now += absl::Seconds(15);
    ASSERT_TRUE(h.Sync(&worker, Reports(worker, kTraining)).ok());
  }
  v1::CreateJobRequest high = MakeCreateRequest("high");
  high.mutable_job()->set_priority_class(v1::HIGH);
  const std::string first = h.Submit(high, MakeSharingFacts(192));
  EXPECT_EQ(h.StateOfJob(first), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(first).reason(), v1::WAITING_FOR_PREEMPTION);
  const auto ordered = [&](const std::string& job) {
    return h.Record(job).current().ordered() == v1::Assignment::YIELD;
  };
  EXPECT_NE(ordered(large), ordered(small));  // One is enough.
  EXPECT_EQ(h.Shown(first).back().message(), "a job on workers/w was told to make room");

  // A small one would fit in the meantime, of a tenant whose turn it is.
  h.now += absl::Seconds(1);
  const std::string left = ordered(large) ? large : small;
  v1::CreateJobRequest other = MakeCreateRequest("late");
  other.set_parent("tenants/u");
  other.mutable_job()->mutable_train()->set_base_model("tenants/u/baseModels/b");
  other.mutable_job()->mutable_train()->set_dataset("tenants/u/datasets/d");
  const std::string late = h.Submit(other, MakeSharingFacts(64));
  EXPECT_EQ(h.StateOfJob(late), v1::QUEUED);
  ASSERT_TRUE(h.Sync(&worker, Reports(worker, kTraining)).ok());
  std::vector<v1::AttemptReport> reports = Reports(worker, kTraining);
  for (v1::AttemptReport& report : reports) {
    if (report.job() == left) report.set_phase(kLeft);
  }
  ASSERT_TRUE(h.Sync(&worker, reports).ok());
  EXPECT_EQ(h.StateOfJob(first), v1::RUNNING);
  EXPECT_EQ(h.StateOfJob(left), v1::QUEUED);
  EXPECT_EQ(h.Record(first).promised_worker(), "");
}

TEST_F(CohortTest, APromiseEndsWithTheWorker) {
  v1::CreateJobRequest low = MakeCreateRequest("low");
  low.mutable_job()->set_priority_class(v1::LOW);
  h.Submit(low);
  ASSERT_TRUE(h.Sync(&worker).ok());
  for (int i = 0; i < 5; ++i) {
    h.now += absl::Seconds(15);
    ASSERT_TRUE(h.Sync(&worker, Reports(worker, kTraining)).ok());
  }
  v1::CreateJobRequest high = MakeCreateRequest("high");
  high.mutable_job()->set_priority_class(v1::HIGH);
  const std::string waits = h.Submit(high);
  EXPECT_EQ(h.Record(waits).promised_worker(), "workers/w");
  LoseWorker();
  EXPECT_EQ(h.WaitingOf(waits).reason(), v1::NO_WORKER_ONLINE);
  FakeWorker other("other");
  ASSERT_TRUE(h.Sync(&other).ok());
  EXPECT_EQ(WorkerOf(waits), "workers/other");
}

// ---- Device time ----

TEST_F(CohortTest, DeviceTimeIsCountedOnceAndNeverMoreThanHasPassed) {
  const std::string a = SubmitSharing("a");
  ASSERT_TRUE(h.Sync(&worker).ok());
  v1::AttemptReport report = Harness::Report(worker.answer.assignments(0), kTraining, 1);
  const auto say = [&](int64_t device_ms) {
    report.set_device_ms(device_ms);
    ASSERT_TRUE(h.Sync(&worker, {report}).ok());
  };
  h.now += absl::Seconds(10);
  say(4'000);  // With the event of its start.
  EXPECT_EQ(Status(a).device_ms(), 4'000);
  say(4'000);
  say(3'000);
  EXPECT_EQ(Status(a).device_ms(), 4'000);
  say(5'000);  // Nothing else to say, and little of it: later.
  EXPECT_EQ(Status(a).device_ms(), 4'000);
  h.now += absl::Seconds(15);
  say(15'000);
  EXPECT_EQ(Status(a).device_ms(), 15'000);
  h.now += absl::Seconds(15);
  say(1'000'000);
  EXPECT_EQ(Status(a).device_ms(), 40'000);

  // The next attempt begins at 0.
  report.set_phase(kLeft);
  ASSERT_TRUE(h.Sync(&worker, {report}).ok());
  EXPECT_EQ(h.StateOfJob(a), v1::RUNNING);
  EXPECT_EQ(Status(a).device_ms(), 40'000);
  h.now += absl::Seconds(20);
  report = Harness::Report(worker.answer.assignments(0), kTraining, 1);
  say(12'000);
  EXPECT_EQ(Status(a).device_ms(), 52'000);
  const Usage::Rows& days = *h.scheduler->state()->usage().Days("t");
  EXPECT_EQ(days.begin()->second.device_ms, 52'000);
}

}  // namespace
}  // namespace deltaworks::scheduler

// Gangs: placed whole or not at all, under one epoch; broken by whoever leaves unasked; and
// nobody's device is given on before he left or lost his lease.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "scheduler/job_record.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::CreateJobRequest GangOf(const std::string& id, int32_t size) {
  v1::CreateJobRequest request = MakeCreateRequest(id);
  request.mutable_job()->mutable_placement()->set_gang_size(size);
  return request;
}

class GangTest : public ProtocolTest {
 protected:
  // Workers "a", "b", ... that can be part of gangs of up to 8.
  void Join(int count) {
    for (int i = 0; i < count; ++i) {
      FakeWorker& joined = workers_.emplace_back(std::string(1, static_cast<char>('a' + i)));
      joined.environment.set_gang_size_max(8);
      joined.environment.set_gang_address(absl::StrCat(joined.name, ":7"));
      (*joined.environment.mutable_labels())["rank"] = absl::StrCat(i);
      CHECK(h.Sync(&joined).ok());
    }
  }

  // Each reports what it was told to hold, in `phase`.
  void ReportAll(v1::AttemptReport::Phase phase, int64_t step = 1) {
    for (FakeWorker& one : workers_) SayAs(&one, phase, step);
  }
  void SayAs(FakeWorker* one, v1::AttemptReport::Phase phase, int64_t step = 1) {
    std::vector<v1::AttemptReport> reports;
    for (const v1::Assignment& held : one->answer.assignments()) {
      if (held.desired() == v1::Assignment::STOP && phase == kTraining) continue;
      reports.push_back(Harness::Report(held, phase, step));
    }
    CHECK(h.Sync(one, reports).ok());
  }
  static void AddCheckpoint(int64_t step, v1::AttemptReport* report) {
    report->mutable_checkpoint()->set_step(step);
    report->mutable_checkpoint()->set_manifest_digest(FakeDigest(step));
  }
  void LeaveWithCheckpoint(FakeWorker* one, int64_t step) {
    v1::AttemptReport report = Harness::Report(one->answer.assignments(0), kLeft, step);
    AddCheckpoint(step, &report);
    CHECK(h.Sync(one, {report}).ok());
  }
  // Hear what is told now, with what they hold.
  void SyncAll() {
    for (FakeWorker& one : workers_) CHECK(h.Sync(&one).ok());
  }

  static v1::Assignment::Desired Told(const FakeWorker& one) {
    return one.answer.assignments_size() == 0 ? v1::Assignment::DESIRED_UNSPECIFIED
                                              : one.answer.assignments(0).desired();
  }
  std::vector<std::string> Holders(const std::string& job) const {
    std::vector<std::string> holders;
    if (!h.Record(job).has_current()) return holders;
    VisitHolders(h.Record(job).current(),
                 [&](const std::string& worker) { holders.push_back(worker); });
    return holders;
  }
  size_t JobsOn(const std::string& id) const {
    return h.scheduler->state()->JobsOn("workers/" + id).size();
  }

  // A gang of `size` that trains.
  std::string RunGang(const std::string& id, int32_t size) {
    const std::string job = h.Submit(GangOf(id, size));
    SyncAll();
    ReportAll(kTraining);
    CHECK_EQ(h.StateOfJob(job), v1::RUNNING);
    return job;
  }

  std::vector<FakeWorker> workers_;
};

TEST_F(GangTest, AllOfItIsGrantedUnderOneEpochAndEachKnowsItsRank) {
  Join(3);
  const std::string job = h.Submit(GangOf("g", 2));
  SyncAll();
  EXPECT_THAT(Holders(job), ElementsAre("workers/a", "workers/b"));
  const v1::Attempt attempt = *Status(job).attempts().begin();
  EXPECT_THAT(attempt.gang(), ElementsAre("workers/a", "workers/b"));
  for (int rank = 0; rank < 2; ++rank) {
    const v1::Assignment& told = workers_[rank].answer.assignments(0);
    EXPECT_EQ(told.desired(), v1::Assignment::RUN);
    EXPECT_EQ(told.lease_epoch(), 1);
    EXPECT_EQ(told.attempt_id(), attempt.attempt_id());
    EXPECT_EQ(told.train().gang().rank(), rank);
    EXPECT_THAT(told.train().gang().workers(), ElementsAre("workers/a", "workers/b"));
    EXPECT_THAT(told.train().gang().addresses(), ElementsAre("workers/a:7", "workers/b:7"));
    EXPECT_EQ(told.train().gang().token().size(), 32U);
    EXPECT_EQ(told.train().gang().token(),
              workers_[0].answer.assignments(0).train().gang().token());
  }
  EXPECT_EQ(workers_[2].answer.assignments_size(), 0);
  EXPECT_EQ(h.scheduler->leases().size(), 2);
  EXPECT_EQ(h.scheduler->state()->DevicesOf("t").size(), 2U);
  const std::string token = workers_[0].answer.assignments(0).train().gang().token();
  EXPECT_NE(token, std::string(32, '\0'));
  h.Restart();  // Both leases are there again.
  EXPECT_EQ(h.scheduler->leases().size(), 2);
  SyncAll();
  for (int rank = 0; rank < 2; ++rank) {
    const v1::Gang& gang = workers_[rank].answer.assignments(0).train().gang();
    EXPECT_EQ(gang.token(), token);
    EXPECT_THAT(gang.addresses(), ElementsAre("workers/a:7", "workers/b:7"));
  }
}

TEST_F(GangTest, ItIsPlacedWholeOrNotAtAllAndWaitsForEmptyWorkersThatAreKeptForIt) {
  Join(2);
  const std::string first = h.Submit("first");
  SyncAll();
  ReportAll(kTraining);
  const std::string gang = h.Submit(GangOf("g", 2));
  EXPECT_EQ(h.StateOfJob(gang), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(gang).reason(), v1::WAITING_FOR_GANG);
  EXPECT_THAT(h.WaitingOf(gang).message(), HasSubstr("of 2 1 is"));
  // A stream of jobs behind it does not keep it waiting for ever.
  const std::string later = h.Submit("later");
  EXPECT_EQ(h.StateOfJob(later), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(later).reason(), v1::WORKERS_HELD);
  ASSERT_TRUE(h.Cancel(first).ok());
  SyncAll();
  ReportAll(kLeft);
  EXPECT_EQ(h.StateOfJob(gang), v1::RUNNING);
  EXPECT_EQ(h.StateOfJob(later), v1::QUEUED);
}

TEST_F(GangTest, TwoGangsThatNeedTheSameWorkersDoNotWaitForEachOther) {
  Join(3);
  const std::string first = RunGang("g", 2);
  const std::string second = h.Submit(GangOf("h", 2));
  const std::string third = h.Submit(GangOf("i", 3));
  EXPECT_EQ(h.StateOfJob(second), v1::QUEUED);
  for (const std::string& job : {first, second, third}) {
    ASSERT_EQ(h.StateOfJob(job), v1::RUNNING);
    ASSERT_TRUE(h.Cancel(job).ok());
    SyncAll();
    ReportAll(kLeft);
    ASSERT_EQ(h.StateOfJob(job), v1::CANCELLED);
    SyncAll();
    ReportAll(kTraining);
  }
}

TEST_F(GangTest, AResultIsAcceptedOnceTheOthersAreDone) {
  Join(2);
  const std::string job = RunGang("g", 2);
  held = workers_[0].answer.assignments(0);
  ASSERT_TRUE(h.Sync(&workers_[0], {ResultReport()}).ok());
  EXPECT_EQ(h.StateOfJob(job), v1::RUNNING);
  EXPECT_EQ(Told(workers_[0]), v1::Assignment::RUN);
  SayAs(&workers_[1], kLeft, 100);
  EXPECT_THAT(Holders(job), ElementsAre("workers/a"));
  EXPECT_EQ(JobsOn("b"), 0U);
  EXPECT_EQ(h.StateOfJob(job), v1::RUNNING);
  ASSERT_TRUE(h.Sync(&workers_[0], {ResultReport()}).ok());
  EXPECT_EQ(h.StateOfJob(job), v1::FINALIZING);
  EXPECT_EQ(h.scheduler->leases().size(), 0);
  h.AnswerVersion(job);
  EXPECT_EQ(h.StateOfJob(job), v1::SUCCEEDED);
}

TEST_F(GangTest, WhoIsLostBreaksItAndNoDeviceIsGivenOnBeforeItIsFree) {
  Join(2);
  const std::string job = RunGang("g", 2);
  const std::string next = h.Submit("next");
  held = workers_[0].answer.assignments(0);
  ASSERT_TRUE([&] {
    v1::AttemptReport report = Harness::Report(held, kTraining, 5);
    AddCheckpoint(5, &report);
    return h.Sync(&workers_[0], {report}).ok();
  }());
  // b says nothing any more.
  for (int i = 0; i < 4 && Told(workers_[0]) != v1::Assignment::STOP; ++i) {
    h.Advance(h.options.lease_duration / 2);
    SayAs(&workers_[0], kTraining, 6);
  }
  EXPECT_EQ(Told(workers_[0]), v1::Assignment::STOP);
  EXPECT_THAT(Holders(job), ElementsAre("workers/a"));
  EXPECT_EQ(h.StateOfJob(job), v1::RUNNING);
  EXPECT_EQ(JobsOn("b"), 0U);
  EXPECT_EQ(h.StateOfJob(next), v1::QUEUED) << "a is not free yet, b is not there";
  ASSERT_TRUE(h.Cancel(next).ok());
  SayAs(&workers_[0], kLeft, 6);
  EXPECT_EQ(h.StateOfJob(job), v1::QUEUED);
  const v1::Attempt attempt = *Status(job).attempts().rbegin();
  EXPECT_EQ(attempt.end(), v1::Attempt::LEASE_ENDED);
  EXPECT_EQ(Status(job).reason(), v1::WORKER_LOST);
  EXPECT_THAT(Status(job).message(), HasSubstr("workers/b was lost"));
  EXPECT_THAT(Status(job).message(), HasSubstr("from step 5"));
  EXPECT_EQ(Status(job).deaths_without_checkpoint(), 1);
  // Whole again, under the next epoch.
  SyncAll();
  SyncAll();
  EXPECT_EQ(h.StateOfJob(job), v1::RUNNING);
  EXPECT_EQ(Status(job).lease_epoch(), 2);
  EXPECT_EQ(Told(workers_[1]), v1::Assignment::RUN);
  EXPECT_EQ(workers_[1].answer.assignments(0).train().start_checkpoint().step(), 5);
}

TEST_F(GangTest, ItEndsAlsoIfAllAreLost) {
  Join(3);
  const std::string job = RunGang("g", 3);
  h.Advance(h.options.lease_duration);
  EXPECT_EQ(h.StateOfJob(job), v1::QUEUED);
  EXPECT_THAT(Holders(job), IsEmpty());
  EXPECT_EQ(h.scheduler->leases().size(), 0);
}

TEST_F(GangTest, AFailureOfOneIsTheFailureOfTheAttempt) {
  Join(2);
  const std::string job = RunGang("g", 2);
  v1::AttemptReport failed = Harness::Report(workers_[1].answer.assignments(0), kFailed, 3);
  failed.mutable_failure()->set_code("DIVERGED");
  failed.mutable_failure()->set_message("loss is NaN");
  failed.mutable_failure()->set_fault(v1::Failure::USER);
  ASSERT_TRUE(h.Sync(&workers_[1], {failed}).ok());
  EXPECT_EQ(h.StateOfJob(job), v1::RUNNING);
  SayAs(&workers_[0], kTraining);
  EXPECT_EQ(Told(workers_[0]), v1::Assignment::STOP);
  SayAs(&workers_[0], kLeft);
  EXPECT_EQ(h.StateOfJob(job), v1::FAILED);
  EXPECT_EQ(Status(job).failure().code(), "DIVERGED");
}

TEST_F(GangTest, APauseTakesAllOfThemOff) {
  Join(2);
  const std::string job = RunGang("g", 2);
  ASSERT_TRUE(h.Pause(job).ok());
  ReportAll(kTraining);
  EXPECT_EQ(Told(workers_[0]), v1::Assignment::YIELD);
  EXPECT_EQ(Told(workers_[1]), v1::Assignment::YIELD);
  SayAs(&workers_[1], kLeft);
  EXPECT_EQ(h.StateOfJob(job), v1::PAUSING);
  EXPECT_EQ(Told(workers_[0]), v1::Assignment::YIELD) << "it may take its checkpoint";
  LeaveWithCheckpoint(&workers_[0], 7);
  EXPECT_EQ(h.StateOfJob(job), v1::PAUSED);
  EXPECT_EQ(Status(job).checkpoint().step(), 7);
  EXPECT_EQ(Status(job).retries_used(), 0);
}

TEST_F(GangTest, AWorkerThatIsLostDuringAPauseStopsTheOthersAtTheLastCheckpoint) {
  Join(2);
  const std::string job = RunGang("g", 2);
  ASSERT_TRUE(h.Pause(job).ok());
  ++workers_[1].incarnation;
  workers_[1].report_number = 0;
  ASSERT_TRUE(h.Sync(&workers_[1]).ok());
  SayAs(&workers_[0], kTraining);
  EXPECT_EQ(Told(workers_[0]), v1::Assignment::STOP);
  SayAs(&workers_[0], kLeft);
  EXPECT_EQ(h.StateOfJob(job), v1::PAUSED);
  EXPECT_EQ(Status(job).retries_used(), 0) << "it had been told to leave";
}

TEST_F(GangTest, ADrainOfOneYieldsAllAndCostsNothing) {
  Join(3);
  const std::string job = RunGang("g", 2);
  workers_[1].draining = true;
  SayAs(&workers_[1], kTraining);
  SayAs(&workers_[0], kTraining);
  EXPECT_EQ(Told(workers_[0]), v1::Assignment::YIELD);
  SayAs(&workers_[0], kLeft);
  SayAs(&workers_[1], kLeft);
  EXPECT_EQ(Status(job).retries_used(), 0);
  SyncAll();
  EXPECT_EQ(h.StateOfJob(job), v1::RUNNING);
  EXPECT_THAT(Holders(job), ElementsAre("workers/a", "workers/c"));
}

TEST_F(GangTest, ADrainThatIsHeardOfWhenItIsOverLeavesTheOthersTheirCheckpoint) {
  Join(2);
  const std::string job = RunGang("g", 2);
  workers_[1].draining = true;
  SayAs(&workers_[1], kLeft);
  SayAs(&workers_[0], kTraining);
  EXPECT_EQ(Told(workers_[0]), v1::Assignment::YIELD) << "it may take its checkpoint";
  LeaveWithCheckpoint(&workers_[0], 7);
  EXPECT_EQ(h.StateOfJob(job), v1::QUEUED);
  EXPECT_EQ(Status(job).checkpoint().step(), 7);
  EXPECT_EQ(Status(job).retries_used(), 0);
}

TEST_F(GangTest, AHigherClassTakesTheDeviceOfAnyOfIts) {
  for (const char* wanted : {"first", "second"}) {
    SCOPED_TRACE(wanted);
    const bool second = wanted == std::string("second");
    if (workers_.empty()) Join(2);
    const std::string gang = RunGang(absl::StrCat("g-", wanted), 2);
    for (int i = 0; i < 6; ++i) {
      h.Advance(h.options.preempt_after / 6);
      ReportAll(kTraining);
    }
    v1::CreateJobRequest high = MakeCreateRequest(absl::StrCat("high-", wanted));
    high.mutable_job()->set_priority_class(v1::HIGH);
    (*high.mutable_job()->mutable_placement()->mutable_worker_labels())["rank"] =
        second ? "1" : "0";
    const std::string job = h.Submit(high);
    h.Advance(h.options.preemption_interval);
    EXPECT_EQ(h.WaitingOf(job).reason(), v1::WAITING_FOR_PREEMPTION);
    ReportAll(kTraining);
    EXPECT_EQ(Told(workers_[0]), v1::Assignment::YIELD);
    EXPECT_EQ(Told(workers_[1]), v1::Assignment::YIELD);
    ReportAll(kLeft);
    EXPECT_EQ(h.StateOfJob(gang), v1::QUEUED);
    EXPECT_EQ(Status(gang).retries_used(), 0);
    EXPECT_EQ(h.StateOfJob(job), v1::RUNNING);
    EXPECT_EQ(JobsOn(second ? "b" : "a"), 1U);
    ASSERT_TRUE(h.Cancel(job).ok());
    ASSERT_TRUE(h.Cancel(gang).ok());
    SyncAll();
    ReportAll(kLeft);
  }
}

TEST_F(GangTest, OneWorkersLossIsLessThanAGangs) {
  Join(3);
  const std::string gang = RunGang("g", 2);
  const std::string solo = h.Submit("solo");
  for (int i = 0; i < 7; ++i) {
    h.Advance(h.options.preempt_after / 6);
    ReportAll(kTraining);
    SyncAll();
    ReportAll(kTraining);
  }
  v1::CreateJobRequest high = MakeCreateRequest("high");
  high.mutable_job()->set_priority_class(v1::HIGH);
  const std::string job = h.Submit(high);
  h.Advance(h.options.preemption_interval);
  EXPECT_EQ(h.Record(job).promised_worker(), "workers/c");
}

TEST_F(GangTest, OneThatIsNoLongerOfItIsToldToStop) {
  Join(2);
  const std::string job = RunGang("g", 2);
  const v1::Assignment stale = workers_[1].answer.assignments(0);
  ++workers_[1].incarnation;
  workers_[1].report_number = 0;
  ASSERT_TRUE(h.Sync(&workers_[1], {Harness::Report(stale, kTraining, 3)}).ok());
  EXPECT_EQ(Told(workers_[1]), v1::Assignment::STOP);
  EXPECT_THAT(Holders(job), ElementsAre("workers/a"));
}

TEST_F(GangTest, ItsDeviceTimeIsThatOfAllItsWorkers) {
  Join(3);
  const std::string job = RunGang("g", 3);
  h.Advance(absl::Seconds(10));
  held = workers_[0].answer.assignments(0);
  v1::AttemptReport report = Harness::Report(held, kTraining, 5);
  report.set_device_ms(9'000);
  AddCheckpoint(5, &report);
  ASSERT_TRUE(h.Sync(&workers_[0], {report}).ok());
  EXPECT_EQ(Status(job).device_ms(), 27'000);
}

TEST_F(GangTest, OnlyRankZeroSpeaksForIt) {
  Join(2);
  const std::string job = RunGang("g", 2);
  held = workers_[1].answer.assignments(0);
  v1::AttemptReport report = ResultReport();
  report.set_phase(kTraining);
  AddCheckpoint(5, &report);
  report.set_first_metric_n(1);
  *report.add_metrics() = MakePoint(1, 2.5);
  ASSERT_TRUE(h.Sync(&workers_[1], {report}).ok());
  EXPECT_EQ(CheckpointStep(h.Record(job)), 0);
  EXPECT_EQ(Status(job).metric_count(), 0);
}

// ---- What can never be ----

TEST_F(GangTest, OneThatIsLargerThanTheClusterIsToldAtOnce) {
  Join(3);
  h.Advance(h.options.lease_duration + h.options.start_grace);
  SyncAll();
  const std::string job = h.Submit(GangOf("g", 4));
  EXPECT_EQ(h.StateOfJob(job), v1::FAILED);
  EXPECT_EQ(Status(job).failure().code(), "INFEASIBLE");
  EXPECT_THAT(Status(job).failure().message(),
              HasSubstr("a gang of 4 workers of one kind, want at most 3"));
  const std::string large = h.Submit(GangOf("h", 9));
  EXPECT_THAT(Status(large).failure().message(), HasSubstr("a gang of 9 workers, want at most 8"));
}

TEST_F(GangTest, WorkersThatCannotBeOfAGangAreNotAsked) {
  CHECK(h.Sync(&worker).ok());
  FakeWorker other("x");
  CHECK(h.Sync(&other).ok());
  const std::string job = h.Submit(GangOf("g", 2));
  EXPECT_EQ(h.StateOfJob(job), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(job).reason(), v1::NO_WORKERS_FOR_GANG);
}

TEST_F(GangTest, WorkersThatCanBeOfLargerGangsAreOfSmallerOnesToo) {
  Join(2);
  workers_[1].environment.set_gang_size_max(2);
  SyncAll();
  EXPECT_EQ(h.StateOfJob(h.Submit(GangOf("g", 2))), v1::RUNNING);
}

TEST_F(GangTest, WorkersOfTwoKindsMakeNoGang) {
  Join(1);
  FakeWorker& other = workers_.emplace_back("x");
  other.environment.set_gang_size_max(8);
  other.environment.set_numerics_class("cpu-avx512-f32");
  CHECK(h.Sync(&other).ok());
  const std::string job = h.Submit(GangOf("g", 2));
  EXPECT_EQ(h.StateOfJob(job), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(job).reason(), v1::NO_WORKERS_FOR_GANG);
  EXPECT_THAT(h.WaitingOf(job).message(), HasSubstr("1 worker online could be of it"));
}

TEST_F(GangTest, AQuotaThatIsTooSmallForItKeepsNoWorkerForIt) {
  Join(3);
  v1::SetQuotaRequest quota;
  quota.mutable_quota()->set_name("tenants/t/quota");
  quota.mutable_quota()->set_limit_devices(2);
  ASSERT_TRUE(h.Execute(quota).ok());
  const std::string gang = h.Submit(GangOf("g", 3));
  EXPECT_EQ(h.StateOfJob(gang), v1::QUEUED);
  EXPECT_EQ(h.WaitingOf(gang).reason(), v1::QUOTA_REACHED);
  EXPECT_EQ(h.StateOfJob(h.Submit("later")), v1::RUNNING);
}

TEST_F(GangTest, WhatIsNoGangIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(h.Execute(GangOf("g", -1)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(h.Execute(GangOf("g", 65)).status()));
  v1::CreateJobRequest shares = GangOf("g", 2);
  shares.mutable_job()->mutable_placement()->set_cohort(v1::Placement::COHORT_ANY);
  const absl::Status status = h.Execute(shares).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("has its workers to itself"));
}

TEST_F(GangTest, ItsBoundCountsTheWorkersThatAreBusyWhileItGathers) {
  Join(3);
  const std::string gang = h.Submit(GangOf("g", 2));
  ASSERT_TRUE(Status(gang).has_start_bound());
  EXPECT_EQ(Status(gang).start_bound().workers(), 3);
}

}  // namespace
}  // namespace deltaworks::scheduler

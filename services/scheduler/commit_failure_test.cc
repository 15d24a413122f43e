// When a commit or a snapshot fails: nobody is told what was not stored, nothing that was stored is
// lost, and workers go on.

#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/testing/core_world.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::JobName;
using ::deltaworks::scheduler::MakeCreateRequest;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using Fault = FaultyEventStore::Fault;

v1::CreateJobRequest CreateRequest(const std::string& request_id) {
  v1::CreateJobRequest request = MakeCreateRequest("");
  request.set_request_id(request_id);
  return request;
}

int64_t JobCount(CoreWorld& world) {
  return *world.Read<int64_t>(
      [](const auto& view) { return static_cast<int64_t>(view.state.jobs().size()); });
}

TEST(CommitFailureTest, ALostCommitIsUnavailableAndTheSameRequestThenGivesOneJob) {
  for (const Fault fault : {Fault::kLost, Fault::kStored}) {
    SCOPED_TRACE(fault == Fault::kStored ? "stored after all" : "not stored");
    CoreWorld world("lost");
    world.events->FailAppends(fault);
    const absl::Status lost = world.Change(CreateRequest("once")).status();
    EXPECT_TRUE(absl::IsUnavailable(lost)) << lost;
    EXPECT_EQ(JobCount(world), fault == Fault::kStored ? 1 : 0);
    EXPECT_EQ(world.Metric("deltaworks_scheduler_commit_failures_total"), 1);
    EXPECT_EQ(world.Metric("deltaworks_scheduler_loaded"), 0);
    world.Advance(absl::Seconds(1));
    EXPECT_EQ(world.Metric("deltaworks_scheduler_loaded"), 1);
    ASSERT_TRUE(world.Change(CreateRequest("once")).ok());
    EXPECT_EQ(JobCount(world), 1);
    // Counted once, whatever became known when.
    EXPECT_EQ(world.Metric("deltaworks_scheduler_jobs_created_total"), 1);
  }
}

TEST(CommitFailureTest, AFullDiskRefusesChangesByNameAndGoesOnReadingAndRenewing) {
  CoreWorld world("disk_full");
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  world.Sync(worker);
  world.Sync(worker);
  worker.Train(10);
  world.events->FailAppends(Fault::kFull, 1 << 20);
  for (int second = 0; second < 60; ++second) {
    world.Advance(absl::Seconds(1));
    const SyncAnswer answer = world.Sync(worker);
    ASSERT_TRUE(answer->has_value());
    ASSERT_TRUE((*answer)->ok()) << (*answer)->status();
    ASSERT_EQ((**answer)->assignments_size(), 1);
    EXPECT_EQ((**answer)->assignments(0).desired(), v1::Assignment::RUN);
    EXPECT_EQ((**answer)->assignments(0).metrics_acknowledged_n(), 0);
    EXPECT_EQ(world.StateOf(job), v1::RUNNING);
    EXPECT_EQ(world.Get(job)->status().metric_count(), 0);
    const absl::Status refused = world.Change(CreateRequest("full")).status();
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("disk is full; nothing was stored"));
  }
  world.events->FailAppends(Fault::kNone, 0);
  world.Advance(absl::Seconds(6));
  EXPECT_TRUE(world.Change(CreateRequest("full")).ok());
  world.Finish(worker);
  EXPECT_EQ(world.StateOf(job), v1::SUCCEEDED);
  EXPECT_EQ(world.Get(job)->status().attempt_count(), 1);
  EXPECT_THAT(world.Points(job), SizeIs(kScriptedSteps));
}

TEST(CommitFailureTest, AMinuteWithoutADatabaseCostsNoAttempt) {
  CoreWorld world("outage");
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  world.Sync(worker);
  world.Sync(worker);
  worker.Train(10);
  world.events->FailLoads(true);
  world.events->FailAppends(Fault::kLost);
  for (int i = 0; i < 30; ++i) {
    const SyncAnswer answer = world.Sync(worker);
    worker.Train(1);
    world.Advance(absl::Seconds(2));
    world.Take(answer, worker);
    EXPECT_TRUE(absl::IsUnavailable(world.Get(job).status()));
    EXPECT_TRUE(absl::IsUnavailable(world.Change(CreateRequest("later")).status()));
  }
  world.events->FailLoads(false);
  world.Advance(absl::Seconds(6));
  EXPECT_EQ(world.StateOf(job), v1::RUNNING);
  world.Finish(worker);
  EXPECT_EQ(world.StateOf(job), v1::SUCCEEDED);
  EXPECT_EQ(world.Get(job)->status().attempt_count(), 1);
}

TEST(CommitFailureTest, AHeldReportIsAnsweredFromWhatIsCommitted) {
  CoreWorld world("held");
  ScriptedWorker worker("w");
  world.Sync(worker);
  const SyncAnswer held = world.Sync(worker);
  ASSERT_FALSE(held->has_value());
  world.Submit("a");
  world.Take(held, worker);
  // The grant of "b" to nobody but a worker that asks is lost with its commit.
  world.events->FailAppends(Fault::kLost);
  ASSERT_TRUE(absl::IsUnavailable(world.Cancel(JobName("a")).status()));
  world.Sync(worker, /*with_news=*/false);
  ASSERT_EQ(worker.answer().assignments_size(), 1);
  EXPECT_EQ(worker.answer().assignments(0).desired(), v1::Assignment::RUN);
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(world.StateOf(JobName("a")), v1::RUNNING);
}

TEST(CommitFailureTest, ReadsOfATurnThatFailedShowTheCommittedState) {
  CoreWorld world("reads");
  world.Submit("a");
  world.events->FailAppends(Fault::kLost);
  absl::Status cancelled;
  v1::CancelJobRequest cancel;
  cancel.set_name(JobName("a"));
  world.core->Change(cancel, [&](const auto& answer) { cancelled = answer.status(); });
  EXPECT_EQ(world.StateOf(JobName("a")), v1::QUEUED);
  EXPECT_TRUE(absl::IsUnavailable(cancelled)) << cancelled;
}

TEST(SnapshotFailureTest, ASnapshotThatDoesNotFitIsTriedAgainAndNothingIsRefused) {
  SchedulerCore::Options options;
  options.snapshot_events = 10;
  CoreWorld world("snapshot_full", options);
  world.events->FailSnapshot(absl::ResourceExhaustedError("events.db: disk is full"));
  for (int i = 0; i < 10; ++i) world.Submit(absl::StrCat("job-", i));
  EXPECT_EQ(world.Metric("deltaworks_scheduler_snapshot_failures_total"), 1);
  world.Advance(absl::Seconds(29));
  EXPECT_EQ(world.Metric("deltaworks_scheduler_loaded"), 1);
  EXPECT_GE(world.events->log_size(), 10);
  world.Advance(absl::Seconds(2));
  EXPECT_EQ(world.events->log_size(), 0);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_snapshot_failures_total"), 1);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_snapshot_duration_seconds_count"), 2);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_commit_failures_total"), 0);
}

TEST(SnapshotFailureTest, AfterAnyOtherErrorTheStateIsLoadedAgainAndNothingIsLost) {
  SchedulerCore::Options options;
  options.snapshot_events = 10;
  CoreWorld world("snapshot_error", options);
  world.events->FailSnapshot(absl::InternalError("events.db: the disk does not answer"));
  int created = 0;
  absl::Status refused;
  while (refused.ok() && created < 20) {
    refused = world.Change(MakeCreateRequest(absl::StrCat("job-", created))).status();
    created += refused.ok() ? 1 : 0;
  }
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("does not answer; nothing was stored"));
  EXPECT_EQ(JobCount(world), created);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_loaded"), 0);
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(world.Metric("deltaworks_scheduler_loaded"), 1);
  EXPECT_TRUE(world.Change(MakeCreateRequest(absl::StrCat("job-", created))).ok());
  EXPECT_EQ(JobCount(world), created + 1);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_snapshot_failures_total"), 1);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_commit_failures_total"), 0);
  world.Advance(absl::Seconds(30));
  EXPECT_EQ(world.events->log_size(), 0);
}

TEST(CommitFailureTest, RandomFailuresLoseNoAnswerThatWasGivenAndRepeatNoPoint) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    CoreWorld world("random");
    ScriptedWorker worker("w");
    const std::string job = world.Submit("a");
    std::set<std::string> created;
    for (int i = 0; i < 200; ++i) {
      if (random() % 5 == 0) {
        world.events->FailAppends(static_cast<Fault>(1 + random() % 3));
      }
      if (random() % 20 == 0) world.Restart(/*kill=*/random() % 2 == 0);
      const std::string id = absl::StrCat("request-", random() % 20);
      v1::CreateJobRequest request = CreateRequest(id);
      request.set_job_id(id);
      const auto answer = world.Change(request);
      if (answer.ok()) created.insert(answer->name());
      world.Sync(worker);
      worker.Train(static_cast<int64_t>(random() % 3), random() % 4 == 0);
      world.Advance(absl::Milliseconds(random() % 3000));
    }
    world.events->FailAppends(Fault::kNone, 0);
    world.Advance(absl::Seconds(10));
    for (const std::string& name : created) EXPECT_TRUE(world.Get(name).ok()) << name;
    for (int i = 0; i < 30 && world.StateOf(job) != v1::SUCCEEDED; ++i) world.Finish(worker);
    EXPECT_EQ(world.StateOf(job), v1::SUCCEEDED);
    const auto points = world.Points(job);
    ASSERT_THAT(points, SizeIs(kScriptedSteps));
    for (int64_t i = 0; i < kScriptedSteps; ++i) EXPECT_EQ(points[i].step(), i + 1);
    int64_t seq = 0;
    for (const v1::JobEvent& event : world.Events(job)) EXPECT_EQ(event.seq(), ++seq);
    int64_t versions = 0;
    for (const auto& version : world.registry.Versions()) {
      versions += version.source().job() == job ? 1 : 0;
    }
    EXPECT_EQ(versions, 1);
  }
}

}  // namespace
}  // namespace deltaworks::services

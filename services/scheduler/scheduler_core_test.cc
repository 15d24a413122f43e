// The scheduler's process on a fake loop: from the request to the version, long polls, questions
// to store and registry, restarts. What happens when a commit fails is in commit_failure_test.cc,
// pins are in pins_test.cc.

#include "services/scheduler/scheduler_core.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/proto_time.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/testing/core_world.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::JobName;
using ::deltaworks::scheduler::MakeCreateRequest;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

v1::CreateJobRequest CreateRequest(const std::string& job_id, const std::string& request_id) {
  v1::CreateJobRequest request = MakeCreateRequest(job_id);
  request.set_request_id(request_id);
  return request;
}

TEST(SchedulerCoreTest, AJobGoesFromTheRequestToItsVersion) {
  CoreWorld world("whole_path");
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  EXPECT_EQ(world.StateOf(job), v1::QUEUED);
  EXPECT_EQ(world.Get(job)->status().waiting().reason(), v1::NO_WORKER_ONLINE);
  world.Finish(worker);
  const v1::Job done = *world.Get(job);
  EXPECT_EQ(done.status().state(), v1::SUCCEEDED);
  EXPECT_EQ(done.status().result().version(), "tenants/t/adapters/a/versions/1");
  ASSERT_THAT(world.registry.Versions(), SizeIs(1));
  EXPECT_EQ(world.registry.Versions()[0].manifest_digest(), ScriptedResult(job));
  EXPECT_THAT(world.Points(job), SizeIs(kScriptedSteps));
}

TEST(SchedulerCoreTest, AHeldReportIsAnsweredWithTheJobTheMomentItIsCreated) {
  CoreWorld world("long_poll");
  ScriptedWorker worker("w");
  world.Sync(worker);  // Says hello.
  const SyncAnswer held = world.Sync(worker);
  ASSERT_FALSE(held->has_value());
  const absl::Duration before = world.clock.Monotonic();
  world.Submit("a");
  ASSERT_TRUE(held->has_value());
  EXPECT_EQ(world.clock.Monotonic(), before);
  world.Take(held, worker);
  EXPECT_THAT(worker.jobs(), ElementsAre(JobName("a")));
}

TEST(SchedulerCoreTest, EachWorkerOfAGangHearsOfItTheMomentItIsGrantedAndWhenItIsBroken) {
  CoreWorld world("gang");
  ScriptedWorker workers[] = {ScriptedWorker("a"), ScriptedWorker("b")};
  SyncAnswer held[2];
  for (int i = 0; i < 2; ++i) {
    workers[i].SetGangSizeMax(2);
    world.Sync(workers[i]);
    held[i] = world.Sync(workers[i]);
    ASSERT_FALSE(held[i]->has_value());
  }
  const absl::Duration before = world.clock.Monotonic();
  v1::CreateJobRequest request = MakeCreateRequest("g");
  request.mutable_job()->mutable_placement()->set_gang_size(2);
  ASSERT_TRUE(world.Change(request).ok());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(held[i]->has_value()) << i;
    world.Take(held[i], workers[i]);
    EXPECT_THAT(workers[i].jobs(), ElementsAre(JobName("g")));
  }
  while (!(held[1] = world.Sync(workers[1]))->has_value()) {
  }
  workers[0].Restart();
  world.Sync(workers[0]);
  EXPECT_EQ(world.clock.Monotonic(), before);
  world.Sync(workers[1]);
  EXPECT_EQ(workers[1].answer().assignments(0).desired(), v1::Assignment::STOP);
}

TEST(SchedulerCoreTest, AReportWithoutNewsIsHeldForAQuarterOfTheLease) {
  CoreWorld world("hold");
  ScriptedWorker worker("w");
  world.Sync(worker);
  world.Advance(absl::Milliseconds(500));  // Its end is between two ticks.
  const SyncAnswer held = world.Sync(worker);
  world.Advance(absl::Milliseconds(4999));
  EXPECT_FALSE(held->has_value());
  EXPECT_EQ(world.Metric("deltaworks_scheduler_syncs_held"), 1);
  world.Advance(absl::Milliseconds(1));
  ASSERT_TRUE(held->has_value());
  EXPECT_TRUE((*held)->ok());
  EXPECT_EQ(world.Metric("deltaworks_scheduler_syncs_held"), 0);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_syncs_answered_total"), 2);
}

TEST(SchedulerCoreTest, ATurnLooksAtThoseThatItConcernsAndATickAtAll) {
  SchedulerCore::Options options;
  options.policy.yield_grace = absl::Milliseconds(2500);
  CoreWorld world("look_at", options);
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  world.Sync(worker);
  worker.Train(1);
  world.Sync(worker);
  ASSERT_TRUE(world.Pause(job).ok());
  world.Sync(worker);
  ASSERT_EQ(worker.answer().assignments(0).desired(), v1::Assignment::YIELD);
  const SyncAnswer held = world.Sync(worker, /*with_news=*/false);
  // Time alone makes the YIELD a STOP. A turn for another job does not look for that.
  world.Advance(absl::Milliseconds(2600));
  world.Submit("b");
  EXPECT_FALSE(held->has_value());
  world.Advance(absl::Milliseconds(400));
  ASSERT_TRUE(held->has_value());
  world.Take(held, worker);
  EXPECT_EQ(worker.answer().assignments(0).desired(), v1::Assignment::STOP);
}

TEST(SchedulerCoreTest, ANewerReportEndsTheOneThatIsHeldAndAnOlderOneIsRefused) {
  CoreWorld world("newer");
  ScriptedWorker worker("w");
  world.Sync(worker);
  const v1::SyncRequest old_report = worker.NextReport();
  const SyncAnswer held = world.Sync(worker);
  const SyncAnswer newer = world.Sync(worker);
  ASSERT_TRUE(held->has_value());
  EXPECT_TRUE(absl::IsAborted((*held)->status()));
  EXPECT_FALSE(newer->has_value());
  absl::Status refused;
  world.core->ReceiveSync(world.core->NewId(), old_report,
                          [&](const auto& answer) { refused = answer.status(); });
  EXPECT_TRUE(absl::IsAborted(refused)) << refused;
}

TEST(SchedulerCoreTest, AWorkerThatHangsUpIsForgotten) {
  CoreWorld world("hang_up");
  ScriptedWorker worker("w");
  world.Sync(worker);
  absl::Status status;
  const int64_t id = world.core->NewId();
  world.core->ReceiveSync(id, worker.NextReport(),
                          [&](const auto& answer) { status = answer.status(); });
  world.loop.RunReady();
  world.core->DropSync(id);
  EXPECT_TRUE(absl::IsCancelled(status));
  world.core->DropSync(id);
  world.Advance(absl::Minutes(1));
}

TEST(SchedulerCoreTest, ChangesOfOneTurnAreOneCommit) {
  CoreWorld world("group");
  world.loop.RunReady();
  const int64_t before = world.events->appends();
  int answered = 0;
  for (int i = 0; i < 50; ++i) {
    world.core->Change(MakeCreateRequest(absl::StrCat("job-", i)),
                       [&](const absl::StatusOr<v1::Job>& job) { answered += job.ok() ? 1 : 0; });
  }
  EXPECT_EQ(answered, 0);  // Nothing is answered before it is stored.
  EXPECT_EQ(world.events->appends(), before);
  world.store.SetValidator(nullptr);
  world.loop.RunReady();
  EXPECT_EQ(answered, 50);
  EXPECT_EQ(world.events->appends(), before + 1);
}

TEST(SchedulerCoreTest, AReadShowsNothingThatIsNotCommitted) {
  CoreWorld world("read");
  bool is_created = false;
  world.core->Change(MakeCreateRequest("a"), [&](const auto&) { is_created = true; });
  bool is_read = false;
  world.core->Read([&](absl::StatusOr<CommittedView> view) {
    ASSERT_TRUE(view.ok());
    EXPECT_TRUE(is_created);
    EXPECT_NE(view->state.FindJob(JobName("a")), nullptr);
    is_read = true;
  });
  EXPECT_FALSE(is_read);
  world.loop.RunReady();
  EXPECT_TRUE(is_read);
}

TEST(SchedulerCoreTest, ARequestIdGivesOneJobAlsoAfterARestart) {
  CoreWorld world("request_id");
  const auto first = world.Change(CreateRequest("", "once"));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(world.Change(CreateRequest("", "once"))->name(), first->name());
  for (const bool kill : {true, false}) {
    world.Restart(kill);
    EXPECT_EQ(world.Change(CreateRequest("", "once"))->name(), first->name());
    v1::CreateJobRequest other = CreateRequest("", "once");
    other.mutable_job()->mutable_train()->mutable_lora()->set_rank(16);
    const absl::Status refused = world.Change(other).status();
    EXPECT_TRUE(absl::IsAlreadyExists(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("job.train.lora"));
  }
  EXPECT_EQ(*world.Read<size_t>([](const auto& view) { return view.state.jobs().size(); }), 1);
}

TEST(SchedulerCoreTest, PauseResumeAndCancelReachTheWorkerThroughItsHeldReport) {
  CoreWorld world("orders");
  ScriptedWorker worker("w");
  world.Sync(worker);
  const std::string job = world.Submit("a");
  world.Sync(worker);
  worker.Train(10);
  world.Sync(worker);
  SyncAnswer held = world.Sync(worker, /*with_news=*/false);
  ASSERT_FALSE(held->has_value());

  EXPECT_EQ(world.Pause(job)->status().state(), v1::PAUSING);
  ASSERT_TRUE(held->has_value());
  world.Take(held, worker);
  EXPECT_EQ(worker.answer().assignments(0).desired(), v1::Assignment::YIELD);
  worker.Train(1);
  world.Advance(absl::Seconds(1));
  world.Sync(worker);
  EXPECT_EQ(world.StateOf(job), v1::PAUSED);
  EXPECT_EQ(world.Get(job)->status().checkpoint().manifest_digest(), ScriptedCheckpoint(job, 10));

  world.Sync(worker);
  EXPECT_EQ(world.Resume(job)->status().state(), v1::RUNNING);  // The worker is free.
  world.Sync(worker);
  EXPECT_THAT(worker.jobs(), ElementsAre(job));

  EXPECT_EQ(world.Cancel(job)->status().state(), v1::CANCELLING);
  world.Sync(worker);
  EXPECT_EQ(worker.answer().assignments(0).desired(), v1::Assignment::STOP);
  world.Sync(worker);
  EXPECT_EQ(world.StateOf(job), v1::CANCELLED);
}

TEST(SchedulerCoreTest, AStoreThatIsAwayIsAskedAgainWithGrowingWaits) {
  CoreWorld world("store_away");
  world.store.Fail("ValidateTraining", absl::UnavailableError("away"), 4);
  const std::string job = world.Submit("a");
  EXPECT_EQ(world.StateOf(job), v1::VALIDATING);
  EXPECT_EQ(world.store.CallCount("ValidateTraining"), 1);
  world.Advance(absl::Seconds(2));
  const int64_t calls = world.store.CallCount("ValidateTraining");
  EXPECT_LE(calls, 3);
  world.Advance(absl::Seconds(30));
  EXPECT_EQ(world.StateOf(job), v1::QUEUED);
  EXPECT_EQ(world.store.CallCount("ValidateTraining"), 5);
  EXPECT_EQ(
      world.Metric(
          "deltaworks_scheduler_asks_total{outcome=\"UNAVAILABLE\",rpc=\"ValidateTraining\"}"),
      4);
}

TEST(SchedulerCoreTest, ASpecThatCannotWorkFailsWithTheStoresWords) {
  CoreWorld world("invalid");
  world.store.SetValidator([](const v1::ValidateTrainingRequest&) {
    v1::ValidateTrainingResponse response;
    response.mutable_failure()->set_code("DATASET_INVALID");
    response.mutable_failure()->set_message("line 3 is not JSON");
    response.mutable_failure()->set_field("train.dataset");
    response.mutable_failure()->set_fault(v1::Failure::USER);
    return response;
  });
  const std::string job = world.Submit("a");
  const v1::JobStatus status = world.Get(job)->status();
  EXPECT_EQ(status.state(), v1::FAILED);
  EXPECT_EQ(status.failure().field(), "train.dataset");
  EXPECT_EQ(world.Metric("deltaworks_scheduler_jobs_ended_total{state=\"failed\"}"), 1);
}

TEST(SchedulerCoreTest, ARegistryThatIsAwayOrMissesBlobsGivesOneVersionInTheEnd) {
  CoreWorld world("registry_away");
  ScriptedWorker worker("w");
  world.registry.FailCreateVersion(absl::UnavailableError("away"), 3);
  const std::string job = world.Submit("a");
  world.Finish(worker, 50);
  EXPECT_EQ(world.StateOf(job), v1::SUCCEEDED);
  EXPECT_EQ(world.registry.create_calls(), 4);

  world.registry.FailCreateVersion(
      absl::FailedPreconditionError(absl::StrCat("missing blobs: ", ScriptedResult("x"))), 1);
  const std::string other = world.Submit("b");
  world.Finish(worker, 50);
  EXPECT_EQ(world.StateOf(other), v1::SUCCEEDED);
  EXPECT_THAT(world.registry.Versions(), SizeIs(2));
}

TEST(SchedulerCoreTest, AWorkerThatRepeatsItsResultAtOnceDoesNotKeepTheRegistryBusy) {
  CoreWorld world("missing_again");
  ScriptedWorker worker("w");
  world.registry.FailCreateVersion(
      absl::FailedPreconditionError(absl::StrCat("missing blobs: ", ScriptedResult("x"))), 1'000);
  const std::string job = world.Submit("a");
  world.Sync(worker);
  worker.Train(kScriptedSteps);
  for (int i = 0; i < 100; ++i) {
    world.Sync(worker);
    world.Advance(absl::Milliseconds(20));
  }
  EXPECT_EQ(world.StateOf(job), v1::FINALIZING);
  // Waits of half a second at least in these two seconds.
  EXPECT_GE(world.registry.create_calls(), 2);
  EXPECT_LE(world.registry.create_calls(), 5);
}

TEST(SchedulerCoreTest, AtMostSoManyQuestionsAreUnderWayAndEachJobHasItsTurn) {
  SchedulerCore::Options options;
  options.asks.validations_max = 2;
  CoreWorld world("asks_bound", options);
  world.pool.hold = true;
  for (int i = 0; i < 5; ++i) world.Submit(absl::StrCat("job-", i));
  world.Advance(absl::Minutes(1));
  EXPECT_THAT(world.pool.held, SizeIs(2));
  world.pool.RunHeld();
  world.loop.RunReady();
  EXPECT_THAT(world.pool.held, SizeIs(2));
  world.pool.hold = false;
  world.pool.RunHeld();
  world.Advance(absl::Seconds(1));
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(world.StateOf(JobName(absl::StrCat("job-", i))), v1::QUEUED) << i;
  }
}

TEST(SchedulerCoreTest, TenantsTakeTurnsInBeingAsked) {
  SchedulerCore::Options options;
  options.asks.validations_max = 1;
  CoreWorld world("asks_turns", options);
  std::vector<std::string> asked;
  world.store.SetValidator([&](const v1::ValidateTrainingRequest& request) {
    asked.push_back(request.parent());
    return scheduler::MakeValidation();
  });
  world.pool.hold = true;
  for (const char* job : {"1", "2", "3"}) world.Submit(job);
  v1::CreateJobRequest request = scheduler::MakeCreateRequest("4");
  request.set_parent("tenants/u");
  request.mutable_job()->mutable_train()->set_base_model("tenants/u/baseModels/base");
  request.mutable_job()->mutable_train()->set_dataset("tenants/u/datasets/data");
  ASSERT_TRUE(world.Change(request).ok());
  for (int i = 0; i < 4; ++i) {
    world.pool.RunHeld();
    world.loop.RunReady();
  }
  EXPECT_THAT(asked, ElementsAre("tenants/t", "tenants/u", "tenants/t", "tenants/t"));
}

TEST(SchedulerCoreTest, JobsOfWhichTheStoreSaysNothingDoNotHoldUpThoseBehindThem) {
  static constexpr char kUnread[] = "tenants/t/adapters/unread";
  CoreWorld world("asks_silence");
  world.store.SetValidator([](const v1::ValidateTrainingRequest& request)
                               -> absl::StatusOr<v1::ValidateTrainingResponse> {
    if (request.spec().adapter() != kUnread) return scheduler::MakeValidation();
    return absl::UnavailableError("its data cannot be read now");
  });
  constexpr int kSilent = Asks::kLooksMax + 100;
  for (int i = 0; i < kSilent; ++i) {
    v1::CreateJobRequest request = scheduler::MakeCreateRequest(absl::StrCat("a-", i));
    request.mutable_job()->mutable_train()->set_adapter(kUnread);
    ASSERT_TRUE(world.Change(request).ok());
  }
  ASSERT_TRUE(world.Change(scheduler::MakeCreateRequest("b")).ok());
  world.Advance(absl::Seconds(1));
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(world.StateOf(JobName("b")), v1::QUEUED);
  EXPECT_EQ(world.StateOf(JobName("a-0")), v1::VALIDATING);
}

TEST(AsksTest, WhatIsSettledIsForgotten) {
  scheduler::Harness h;
  FakeClock clock;
  FakeEventLoop loop{clock};
  InlineCallPool pool;
  FakeStoreClient store;
  FakeRegistryClient registry;
  Metrics prometheus("scheduler");
  SchedulerMetrics metrics(prometheus);
  store.SetValidator([](const auto&) { return scheduler::MakeValidation(); });
  Asks asks(
      Asks::Options(), loop, pool, store, registry,
      [&](const scheduler::Command& answer) { ASSERT_TRUE(h.Execute(answer).ok()); }, metrics);
  constexpr int kJobs = 3 * Asks::kLooksMax;
  for (int i = 0; i < kJobs; ++i) {
    ASSERT_TRUE(h.Execute(MakeCreateRequest(absl::StrCat("job-", i))).ok());
    asks.Start(*h.scheduler->state(), h.now);
    loop.RunReady();
    h.now += absl::Seconds(1);
  }
  EXPECT_TRUE(h.scheduler->state()->validating().empty());
  EXPECT_LE(asks.remembered(), Asks::kLooksMax + 1);
}

TEST(SchedulerCoreTest, ARestartReplaysToTheSameJobsAndTheWorkerGoesOn) {
  CoreWorld world("restart");
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  world.Sync(worker);
  world.Sync(worker);
  worker.Train(30, /*checkpoint=*/true);
  world.Sync(worker);
  const int64_t term = worker.answer().term();
  const v1::Job before = *world.Get(job);
  for (const bool kill : {true, false}) {
    world.Restart(kill);
    EXPECT_EQ(world.Get(job)->SerializeAsString(), before.SerializeAsString());
    world.Advance(absl::Seconds(22));  // No lease ends before one lease and 3 s.
    world.Sync(worker);
    EXPECT_EQ(world.Get(job)->status().attempt_count(), 1);
  }
  EXPECT_EQ(worker.answer().term(), term + 2);
  world.Finish(worker);
  EXPECT_EQ(world.StateOf(job), v1::SUCCEEDED);
  EXPECT_EQ(world.Get(job)->status().attempt_count(), 1);
  EXPECT_THAT(world.Points(job), SizeIs(kScriptedSteps));
}

TEST(SchedulerCoreTest, AWallClockThatJumpsEndsNoLeaseAndTurnsNoEventsAround) {
  CoreWorld world("clock");
  ScriptedWorker worker("w");
  world.Sync(worker);
  const std::string job = world.Submit("a");
  CoreWorld::Take(world.Sync(worker), worker);
  // Back, and far ahead, while the process runs.
  for (const absl::Duration jump : {-absl::Hours(5), absl::Hours(1000), -absl::Hours(2000)}) {
    world.clock.SetNow(world.clock.Now() + jump);
    worker.Train(10);
    CoreWorld::Take(world.Sync(worker), worker);
    world.Advance(absl::Seconds(1));
    EXPECT_EQ(world.StateOf(job), v1::RUNNING);
  }
  // A process that starts with a clock before the last event.
  world.Restart();
  CoreWorld::Take(world.Sync(worker), worker);
  EXPECT_EQ(world.StateOf(job), v1::RUNNING);
  world.Finish(worker);
  EXPECT_EQ(world.StateOf(job), v1::SUCCEEDED);
  EXPECT_EQ(world.Get(job)->status().attempt_count(), 1);
  absl::Time last = absl::InfinitePast();
  for (const v1::JobEvent& event : world.Events(job)) {
    EXPECT_GE(scheduler::FromProto(event.time()), last);
    last = scheduler::FromProto(event.time());
  }
}

TEST(SchedulerCoreTest, SnapshotsKeepTheLogShort) {
  SchedulerCore::Options options;
  options.snapshot_events = 50;
  CoreWorld world("snapshots", options);
  ScriptedWorker worker("w");
  for (int i = 0; i < 5; ++i) world.Submit(absl::StrCat("job-", i));
  for (int i = 0; i < 5; ++i) world.Finish(worker, 5);
  EXPECT_LT(world.events->log_size(), 50 + 100);
  const double events = world.Metric("deltaworks_scheduler_events_committed_total");
  EXPECT_GT(events, 500);
  EXPECT_GE(world.Metric("deltaworks_scheduler_snapshot_duration_seconds_count"), events / 150);
  const std::string before = *world.Read<std::string>([](const auto& view) {
    scheduler::Snapshot snapshot = view.state.ToSnapshot();
    return scheduler::DeterministicBytes(snapshot.jobs(3));
  });
  world.Restart();
  EXPECT_EQ(*world.Read<std::string>([](const auto& view) {
    scheduler::Snapshot snapshot = view.state.ToSnapshot();
    return scheduler::DeterministicBytes(snapshot.jobs(3));
  }),
            before);
  EXPECT_THAT(world.Points(JobName("job-3")), SizeIs(kScriptedSteps));
}

TEST(SchedulerCoreTest, CountersAgreeWithTheTotalsOfTheJobs) {
  CoreWorld world("counters");
  ScriptedWorker worker("w");
  const std::string a = world.Submit("a");
  world.Submit("b");
  world.Submit("c");
  ASSERT_TRUE(world.Cancel(JobName("c")).ok());
  world.Sync(worker);
  world.Sync(worker);
  worker.Train(10);
  world.Sync(worker);
  worker.Restart();  // Costs a retry.
  world.Sync(worker);
  world.Finish(worker);
  world.Finish(worker);
  int64_t attempts = 0;
  int64_t points = 0;
  int64_t retries = 0;
  for (const char* id : {"a", "b", "c"}) {
    const v1::JobStatus status = world.Get(JobName(id))->status();
    attempts += status.attempt_count();
    points += status.metric_count();
    retries += status.retries_used();
  }
  EXPECT_EQ(world.Metric("deltaworks_scheduler_jobs_created_total"), 3);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_jobs_ended_total{state=\"succeeded\"}"), 2);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_jobs_ended_total{state=\"cancelled\"}"), 1);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_attempts_granted_total"), attempts);
  EXPECT_EQ(attempts, 3);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_attempts_ended_total{end=\"completed\"}"), 2);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_attempts_ended_total{end=\"worker_restarted\"}"), 1);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_metric_points_total"), points);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_retries_total"), retries);
  EXPECT_EQ(retries, 1);
  EXPECT_EQ(world.Metric("deltaworks_scheduler_jobs{state=\"queued\"}"), 0);
}

TEST(SchedulerCoreTest, EveryMetricMovesWithWhatItTells) {
  SchedulerCore::Options options;
  options.policy.preempt_after = absl::ZeroDuration();
  CoreWorld world("metrics", options);
  const auto metric = [&](const std::string& name) {
    return world.Metric("deltaworks_scheduler_" + name);
  };
  const int64_t appends = world.events->appends();
  ScriptedWorker worker("w");
  world.Submit("a");
  EXPECT_EQ(metric("commit_duration_seconds_count"),
            static_cast<double>(world.events->appends() - appends));
  world.Advance(absl::Seconds(10));
  EXPECT_EQ(metric("jobs{state=\"queued\"}"), 1);
  EXPECT_EQ(metric("log_events"), static_cast<double>(world.events->log_size()));
  EXPECT_EQ(metric("workers_online"), 0);
  EXPECT_EQ(metric("queue_duration_seconds_count"), 0);
  world.Sync(worker);
  world.Sync(worker);
  EXPECT_EQ(metric("queue_duration_seconds_count"), 1);
  EXPECT_EQ(metric("queue_duration_seconds_sum"), 10);
  world.Advance(absl::Seconds(1));
  EXPECT_EQ(metric("jobs{state=\"running\"}"), 1);
  EXPECT_EQ(metric("workers_online"), 1);

  worker.Train(10, /*checkpoint=*/true);
  world.Sync(worker);
  EXPECT_EQ(metric("checkpoints_total"), 1);
  v1::CreateJobRequest urgent = MakeCreateRequest("urgent");
  urgent.mutable_job()->set_priority_class(v1::HIGH);
  ASSERT_TRUE(world.Change(urgent).ok());
  EXPECT_EQ(metric("preemptions_total"), 1);

  EXPECT_EQ(metric("alerts_total"), 0);
  world.registry.FailCreateVersion(absl::AlreadyExistsError("has manifest x"), 1);
  for (const char* id : {"a", "urgent"}) {
    for (int i = 0; i < 5 && world.StateOf(JobName(id)) != v1::SUCCEEDED; ++i) world.Finish(worker);
  }
  EXPECT_EQ(metric("alerts_total"), 1);
  EXPECT_EQ(metric("jobs_ended_total{state=\"failed\"}"), 1);
  world.Advance(absl::Seconds(22));
  EXPECT_EQ(metric("workers_online"), 0);
}

TEST(SchedulerCoreTest, StoppingCommitsAnswersWhatIsHeldAndLeavesTheLeases) {
  CoreWorld world("stop");
  ScriptedWorker worker("w");
  const std::string job = world.Submit("a");
  world.Sync(worker);
  world.Sync(worker);
  worker.Train(1);
  world.Sync(worker);
  const SyncAnswer held = world.Sync(worker, /*with_news=*/false);
  ASSERT_FALSE(held->has_value());
  absl::StatusOr<v1::Job> created = absl::UnknownError("not answered");
  world.core->Change(MakeCreateRequest("b"), [&](auto answer) { created = std::move(answer); });
  world.core->Stop();
  EXPECT_TRUE(created.ok()) << created.status();
  ASSERT_TRUE(held->has_value());
  ASSERT_TRUE((*held)->ok());
  EXPECT_EQ((**held)->assignments(0).desired(), v1::Assignment::RUN);
  EXPECT_TRUE(absl::IsUnavailable(world.Change(MakeCreateRequest("c")).status()));
  EXPECT_TRUE(absl::IsUnavailable(world.Get(job).status()));
  world.Restart(/*kill=*/false);
  EXPECT_EQ(world.StateOf(job), v1::RUNNING);
  EXPECT_EQ(world.StateOf(JobName("b")), v1::QUEUED);
}

TEST(SchedulerCoreTest, EveryBoundRefusesWithItsNumber) {
  SchedulerCore::Options options;
  options.waiting_max = 2;
  options.syncs_max = 1;
  options.policy.active_jobs_max = 3;
  CoreWorld world("bounds", options);
  absl::Status third;
  for (const char* id : {"a", "b", "c"}) {
    world.core->Change(MakeCreateRequest(id), [&](const auto& answer) { third = answer.status(); });
  }
  EXPECT_TRUE(absl::IsResourceExhausted(third)) << third;
  EXPECT_THAT(std::string(third.message()), HasSubstr("want fewer than 2"));
  world.loop.RunReady();
  ASSERT_TRUE(world.Change(MakeCreateRequest("c")).ok());
  const absl::Status fourth = world.Change(MakeCreateRequest("d")).status();
  EXPECT_TRUE(absl::IsResourceExhausted(fourth)) << fourth;
  EXPECT_THAT(std::string(fourth.message()), HasSubstr("want fewer than 3"));

  ScriptedWorker one("one");
  ScriptedWorker two("two");
  SyncAnswer held;
  // Jobs were granted to it at once; what is held is a report that says so.
  for (int i = 0; i < 3; ++i) held = world.Sync(one, /*with_news=*/false);
  ASSERT_FALSE(held->has_value());
  const SyncAnswer refused = world.Sync(two);
  EXPECT_TRUE(absl::IsResourceExhausted((*refused)->status()));
  // A newer report of the one that is held needs no room.
  const SyncAnswer newer = world.Sync(one, /*with_news=*/false);
  EXPECT_TRUE(absl::IsAborted((*held)->status()));
  EXPECT_FALSE(newer->has_value());
  for (const char* limit : {"waiting", "active_jobs", "syncs"}) {
    EXPECT_EQ(
        world.Metric(absl::StrCat("deltaworks_scheduler_refused_total{limit=\"", limit, "\"}")), 1)
        << limit;
  }
}

}  // namespace
}  // namespace deltaworks::services

// The policies as literal tables: order, blame, placement, preemption, repeated metrics.

#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/blame.h"
#include "scheduler/metrics_merge.h"
#include "scheduler/placement.h"
#include "scheduler/queue_order.h"
#include "scheduler/testing/harness.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// ---- Order ----

v1::Job Waiting(const std::string& name, v1::PriorityClass priority_class, absl::Duration age) {
  v1::Job job;
  job.set_name(name);
  job.set_priority_class(priority_class);
  *job.mutable_create_time() = ToProto(absl::FromUnixSeconds(1'000'000) - age);
  return job;
}

TEST(QueueOrderTest, AJobGoesBeforeAnotherByClassAndByWaiting) {
  struct Case {
    v1::PriorityClass first_class;
    absl::Duration first_age;
    v1::PriorityClass second_class;
    absl::Duration second_age;
  };
  const Case cases[] = {
      {v1::LOW, absl::Seconds(1), v1::LOW, absl::ZeroDuration()},
      {v1::NORMAL, absl::ZeroDuration(), v1::LOW, absl::Minutes(59)},
      {v1::LOW, absl::Minutes(61), v1::NORMAL, absl::ZeroDuration()},
      {v1::HIGH, absl::ZeroDuration(), v1::NORMAL, absl::Minutes(179)},
      {v1::NORMAL, absl::Minutes(181), v1::HIGH, absl::ZeroDuration()},
      {v1::LOW, absl::Minutes(241), v1::HIGH, absl::ZeroDuration()},
  };
  const Options options;
  for (const Case& c : cases) {
    const QueueKey first = MakeQueueKey(Waiting("b", c.first_class, c.first_age), options);
    const QueueKey second = MakeQueueKey(Waiting("a", c.second_class, c.second_age), options);
    EXPECT_TRUE(first < second) << c.first_class << " after " << c.first_age << ", "
                                << c.second_class << " after " << c.second_age;
  }
}

TEST(QueueOrderTest, EqualKeysAreOrderedByName) {
  const Options options;
  EXPECT_TRUE(MakeQueueKey(Waiting("a", v1::LOW, {}), options) <
              MakeQueueKey(Waiting("b", v1::LOW, {}), options));
}

// ---- Blame ----

struct BlameCase {
  const char* what;
  // Before.
  int deaths;
  int deaths_alone;
  int retries_used;
  bool made_checkpoint;
  bool alone;
  // The end.
  bool told;
  const char* code;
  v1::Failure::Fault fault;
  // Wanted.
  bool death;
  bool cost_retry;
  bool run_alone;
  const char* fails_with;
};

TEST(BlameTest, TheEndOfAnAttemptCostsWhatTheTableSays) {
  constexpr auto kNone = v1::Failure::FAULT_UNSPECIFIED;
  constexpr auto kUser = v1::Failure::USER;
  constexpr auto kPlatform = v1::Failure::PLATFORM;
  const BlameCase cases[] = {
      {"lost", 0, 0, 0, false, true, false, "", kNone, true, true, false, ""},
      {"lost after a checkpoint", 0, 0, 0, true, true, false, "", kNone, true, false, false, ""},
      {"told to leave", 2, 2, 5, false, true, true, "", kNone, false, false, false, ""},
      {"second death in a row", 1, 0, 1, false, false, false, "", kNone, true, true, true, ""},
      {"third in a row, not alone", 2, 0, 2, false, false, false, "", kNone, true, true, true, ""},
      {"third alone", 2, 2, 2, false, true, false, "", kNone, true, true, true, "POISONED"},
      {"no retry left", 0, 0, 5, false, true, false, "E", kPlatform, true, true, false,
       "RETRIES_EXHAUSTED"},
      {"no retry needed", 0, 0, 5, true, true, false, "E", kPlatform, true, false, false, ""},
      {"the user's fault", 0, 0, 0, false, true, false, "DIVERGED", kUser, false, false, false,
       "DIVERGED"},
      {"the user's fault while leaving", 0, 0, 0, false, true, true, "DIVERGED", kUser, false,
       false, false, "DIVERGED"},
      {"no memory, alone", 0, 0, 0, false, true, false, "OUT_OF_MEMORY", kPlatform, false, false,
       true, "OUT_OF_MEMORY"},
      {"no memory beside others", 0, 0, 0, false, false, false, "OUT_OF_MEMORY", kPlatform, false,
       false, true, ""},
  };
  for (const BlameCase& c : cases) {
    JobRecord record;
    record.mutable_job()->mutable_retry_policy()->set_max_retries(5);
    record.mutable_job()->mutable_status()->set_deaths_without_checkpoint(c.deaths);
    record.mutable_job()->mutable_status()->set_retries_used(c.retries_used);
    record.set_deaths_alone(c.deaths_alone);
    record.mutable_current()->set_made_checkpoint(c.made_checkpoint);
    record.mutable_current()->set_alone(c.alone);
    v1::Failure failure;
    failure.set_code(c.code);
    failure.set_fault(c.fault);

    const Blame blame = JudgeEnd(record, failure, c.told, Options());

    EXPECT_EQ(blame.death, c.death) << c.what;
    EXPECT_EQ(blame.cost_retry, c.cost_retry) << c.what;
    EXPECT_EQ(blame.run_alone, c.run_alone) << c.what;
    EXPECT_EQ(blame.job_fails ? blame.failure.code() : "", std::string(c.fails_with)) << c.what;
  }
}

TEST(BlameTest, OutOfMemoryOnAnEmptyWorkerIsTheUsersFault) {
  JobRecord record;
  record.mutable_current()->set_alone(true);
  v1::Failure failure;
  failure.set_code("OUT_OF_MEMORY");
  failure.set_fault(v1::Failure::PLATFORM);
  EXPECT_EQ(JudgeEnd(record, failure, false, Options()).failure.fault(), v1::Failure::USER);
}

TEST(BlameTest, WithoutALimitNothingIsPoisonAndWithMinusOneNoRetryIsTheLast) {
  JobRecord record;
  record.mutable_job()->mutable_retry_policy()->set_max_retries(-1);
  record.mutable_job()->mutable_status()->set_retries_used(1000);
  record.mutable_current()->set_alone(true);
  record.set_deaths_alone(1000);
  Options options;
  options.deaths_until_poison = 0;
  EXPECT_FALSE(JudgeEnd(record, v1::Failure(), false, options).job_fails);
  options.deaths_until_poison = 3;
  EXPECT_TRUE(JudgeEnd(record, v1::Failure(), false, options).job_fails);
}

// ---- Placement ----

WorkerInfo MakeWorker() {
  WorkerInfo worker{.name = "workers/w", .incarnation = 1, .online = true};
  worker.environment.set_device_kind("cpu");
  worker.environment.set_memory_bytes(1000);
  worker.environment.set_numerics_class("c");
  (*worker.environment.mutable_labels())["zone"] = "a";
  return worker;
}

TEST(PlacementTest, TheFirstCheckThatFailsIsTheReason) {
  struct Case {
    v1::JobReason reason;
    Verdict verdict;
    void (*spoil)(JobRecord*, WorkerInfo*);
  };
  const Case cases[] = {
      {v1::READY_TO_RUN, Verdict::kFits, [](JobRecord*, WorkerInfo*) {}},
      {v1::NO_WORKER_ONLINE, Verdict::kRetryLater,
       [](JobRecord*, WorkerInfo* w) { w->online = false; }},
      {v1::NO_WORKER_ONLINE, Verdict::kRetryLater,
       [](JobRecord*, WorkerInfo* w) { w->draining = true; }},
      {v1::NO_WORKER_WITH_DEVICE_KIND, Verdict::kInfeasible,
       [](JobRecord* r, WorkerInfo*) {
         r->mutable_job()->mutable_placement()->set_device_kind("cuda");
       }},
      {v1::NO_WORKER_WITH_LABELS, Verdict::kInfeasible,
       [](JobRecord* r, WorkerInfo*) {
         (*r->mutable_job()->mutable_placement()->mutable_worker_labels())["zone"] = "b";
       }},
      {v1::NO_WORKER_WITH_MEMORY, Verdict::kInfeasible,
       [](JobRecord* r, WorkerInfo*) {
         r->mutable_job()->mutable_status()->mutable_facts()->set_memory_bytes_max(1001);
       }},
      {v1::NO_WORKER_WITH_MEMORY, Verdict::kInfeasible,
       [](JobRecord* r, WorkerInfo*) {
         r->mutable_job()->mutable_placement()->set_memory_bytes_min(1001);
       }},
      {v1::NO_WORKER_WITH_NUMERICS_CLASS, Verdict::kInfeasible,
       [](JobRecord* r, WorkerInfo*) {
         r->mutable_job()->mutable_status()->set_numerics_class("d");
       }},
  };
  for (const Case& c : cases) {
    JobRecord record;
    WorkerInfo worker = MakeWorker();
    c.spoil(&record, &worker);
    const Options options;
    const Fit fit = CheckWorker(ShapeOf(record, options), worker, v1::WORKER_ACTIVE, WorkerLoad(),
                                /*any_class=*/false, options);
    EXPECT_EQ(fit.reason, c.reason);
    EXPECT_EQ(fit.verdict, c.verdict) << v1::JobReason_Name(c.reason);
  }
}

TEST(PlacementTest, AWorkerThatHoldsTheBaseIsPreferred) {
  Harness h;
  FakeWorker a("a");
  FakeWorker b("b");
  b.environment.add_bases_cached(FakeDigest(1));
  ASSERT_TRUE(h.Sync(&a).ok());
  ASSERT_TRUE(h.Sync(&b).ok());
  EXPECT_EQ(h.Record(h.Submit("job")).current().worker(), "workers/b");
}

// ---- Preemption ----

// A job of `priority_class` submitted after `age` has passed since the last one.
std::string SubmitClass(Harness* h, const std::string& id, v1::PriorityClass priority_class) {
  v1::CreateJobRequest request = MakeCreateRequest(id);
  request.mutable_job()->set_priority_class(priority_class);
  return h->Submit(request);
}

TEST(PreemptionTest, AHigherClassTakesTheDeviceOfALowerOneAndTheVictimStandsBehindIt) {
  Harness h;
  FakeWorker worker("w");
  ASSERT_TRUE(h.Sync(&worker).ok());
  const std::string low = SubmitClass(&h, "low", v1::LOW);
  h.Advance(absl::Minutes(2));
  ASSERT_TRUE(h.Sync(&worker, {}).ok());  // Its lease ended meanwhile; it gets the job again.
  h.now += h.options.preempt_after;
  ASSERT_TRUE(h.Sync(&worker, {Harness::Report(worker.answer.assignments(0),
                                               v1::AttemptReport::TRAINING, 1)})
                  .ok());
  const std::string high = SubmitClass(&h, "high", v1::HIGH);

  EXPECT_EQ(h.Record(low).current().ordered(), v1::Assignment::YIELD);
  EXPECT_EQ(h.WaitingOf(high).reason(), v1::WAITING_FOR_PREEMPTION);
  ASSERT_TRUE(
      h.Sync(&worker, {Harness::Report(worker.answer.assignments(0), v1::AttemptReport::LEFT, 1)})
          .ok());
  EXPECT_EQ(h.StateOfJob(high), v1::RUNNING);
  EXPECT_EQ(h.StateOfJob(low), v1::QUEUED);
  EXPECT_EQ(h.Record(low).job().status().reason(), v1::PREEMPTED);
}

TEST(PreemptionTest, NobodyIsPreemptedByTheSameClassNorByOneThatIsBehindNorTooSoon) {
  struct Case {
    v1::PriorityClass running;
    absl::Duration ran;
    v1::PriorityClass waiting;
    bool preempted;
  };
  const Case cases[] = {
      {v1::LOW, absl::Minutes(2), v1::HIGH, true},
      {v1::LOW, absl::Minutes(2), v1::NORMAL, true},
      {v1::NORMAL, absl::Minutes(2), v1::HIGH, true},
      {v1::NORMAL, absl::Minutes(2), v1::NORMAL, false},
      {v1::HIGH, absl::Minutes(2), v1::NORMAL, false},
      {v1::LOW, absl::Seconds(59), v1::HIGH, false},  // Too soon.
      {v1::LOW, absl::Hours(5), v1::HIGH, false},     // So old that it is ahead.
      {v1::LOW, absl::Minutes(61), v1::NORMAL, false},
  };
  for (const Case& c : cases) {
    Harness h;
    FakeWorker worker("w");
    ASSERT_TRUE(h.Sync(&worker).ok());
    const std::string running = SubmitClass(&h, "running", c.running);
    ASSERT_TRUE(h.Sync(&worker).ok());
    const v1::Assignment assignment = worker.answer.assignments(0);
    const absl::Time end = h.now + c.ran;
    while (h.now < end) {  // Keeps the lease.
      h.now = std::min(end, h.now + absl::Seconds(15));
      ASSERT_TRUE(
          h.Sync(&worker, {Harness::Report(assignment, v1::AttemptReport::TRAINING, 1)}).ok());
    }
    SubmitClass(&h, "waiting", c.waiting);
    EXPECT_EQ(h.Record(running).current().ordered() == v1::Assignment::YIELD, c.preempted)
        << v1::PriorityClass_Name(c.running) << " for " << c.ran << " before "
        << v1::PriorityClass_Name(c.waiting);
  }
}

TEST(PreemptionTest, OneWaitingJobClearsOneWorkerOnly) {
  Harness h;
  FakeWorker a("a");
  FakeWorker b("b");
  ASSERT_TRUE(h.Sync(&a).ok());
  ASSERT_TRUE(h.Sync(&b).ok());
  const std::string first = SubmitClass(&h, "first", v1::LOW);
  h.now += absl::Seconds(1);
  const std::string second = SubmitClass(&h, "second", v1::LOW);
  for (int i = 0; i < 5; ++i) {
    h.now += absl::Seconds(15);
    for (FakeWorker* worker : {&a, &b}) {
      std::vector<v1::AttemptReport> held;
      for (const v1::Assignment& assignment : worker->answer.assignments()) {
        held.push_back(Harness::Report(assignment, v1::AttemptReport::TRAINING, 1));
      }
      ASSERT_TRUE(h.Sync(worker, held).ok());
    }
  }
  SubmitClass(&h, "high", v1::HIGH);
  h.Tick();
  // Of two of one class, the one that did less since its last checkpoint.
  EXPECT_EQ(h.Record(first).current().ordered(), v1::Assignment::DESIRED_UNSPECIFIED);
  EXPECT_EQ(h.Record(second).current().ordered(), v1::Assignment::YIELD);
}

// ---- Repeated metrics ----

v1::AttemptReport WithPoints(int64_t first_n, const std::vector<v1::MetricPoint>& points) {
  v1::AttemptReport report;
  report.set_first_metric_n(first_n);
  for (const v1::MetricPoint& point : points) *report.add_metrics() = point;
  return report;
}

JobRecord WithRecorded(const std::vector<v1::MetricPoint>& points) {
  JobRecord record;
  record.mutable_job()->mutable_status()->mutable_progress()->set_total_steps(100);
  for (const v1::MetricPoint& point : points) {
    *record.add_recent_metrics() = point;
    record.set_metric_steps_end(point.step() + 1);
  }
  return record;
}

TEST(MetricsMergeTest, ARepeatedNumberIsDroppedAndARepeatedEqualStepIsAcknowledgedOnly) {
  JobRecord record = WithRecorded({MakePoint(1, 0.5), MakePoint(2, 0.25)});
  record.mutable_current()->set_metrics_acknowledged_n(1);
  const MergedMetrics merged = MergeMetrics(
      record, WithPoints(1, {MakePoint(1, 0.5), MakePoint(2, 0.25), MakePoint(3, 0.125)}));
  EXPECT_EQ(merged.acknowledged_n, 3);
  ASSERT_EQ(merged.points.size(), 1);
  EXPECT_EQ(merged.points[0].step(), 3);
  EXPECT_EQ(merged.difference, "");
}

TEST(MetricsMergeTest, ARepeatedStepWithOneOtherBitIsADifference) {
  const double loss = 0.5;
  const JobRecord record = WithRecorded({MakePoint(1, loss)});
  const MergedMetrics merged =
      MergeMetrics(record, WithPoints(1, {MakePoint(1, std::nextafter(loss, 1.0))}));
  EXPECT_THAT(merged.points, IsEmpty());
  EXPECT_EQ(merged.difference_step, 1);
  EXPECT_THAT(merged.difference, HasSubstr("step 1 was repeated and its loss is"));
}

TEST(MetricsMergeTest, ANanEqualsItselfAndSpeedDoesNotCount) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const JobRecord record = WithRecorded({MakePoint(1, nan)});
  v1::MetricPoint again = MakePoint(1, nan);
  again.set_tokens_per_second(123);
  EXPECT_EQ(MergeMetrics(record, WithPoints(1, {again})).difference, "");
}

TEST(MetricsMergeTest, StepsOutsideTheJobArePassedOver) {
  const JobRecord record = WithRecorded({});
  const MergedMetrics merged =
      MergeMetrics(record, WithPoints(1, {MakePoint(-1, 1), MakePoint(101, 1), MakePoint(7, 1)}));
  EXPECT_EQ(merged.acknowledged_n, 3);
  ASSERT_EQ(merged.points.size(), 1);
  EXPECT_EQ(merged.points[0].step(), 7);
}

}  // namespace
}  // namespace deltaworks::scheduler

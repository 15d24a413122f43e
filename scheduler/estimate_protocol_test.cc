// What is said of a job before it runs: device time and cost, the latest start, when it will likely
// start and end, and what would help.

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/explain.h"
#include "scheduler/job_spec.h"
#include "scheduler/preview.h"
#include "scheduler/proto_time.h"
#include "scheduler/testing/protocol_fixture.h"

namespace deltaworks::scheduler {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Jobs of 64 tokens a step, whose passes take 1 + 64/64 = 2 seconds alone.
class EstimateTest : public ProtocolTest {
 protected:
  EstimateTest()
      : ProtocolTest([] {
          Options options;
          options.device_hour_price = 3.6;
          return options;
        }()) {
    Measure(&worker);
    // Until then workers that were not heard yet may come.
    h.Advance(h.options.lease_duration + h.options.start_grace);
    CHECK(h.Sync(&worker).ok());
  }

  static void Measure(FakeWorker* w) {
    v1::PassTime& time = w->pass_times.emplace_back();
    time.set_base_manifest_digest(FakeDigest(1));
    time.set_fixed_seconds(1);
    time.set_seconds_per_token(1.0 / 64);
  }

  // Nobody shares with it, unless the request says so.
  std::string SubmitSteps(const std::string& id, int64_t steps,
                          v1::CreateJobRequest request = v1::CreateJobRequest(),
                          v1::Placement::Cohort cohort = v1::Placement::COHORT_ALONE) {
    if (!request.has_job()) request = MakeCreateRequest(id);
    request.mutable_job()->mutable_placement()->set_cohort(cohort);
    v1::TrainFacts facts = MakeSharingFacts(64);
    facts.set_total_steps(steps);
    return h.Submit(request, facts);
  }

  v1::Waiting WaitingOne(const std::string& job) {
    const Explainer::Sources sources = {h.scheduler->workers(), h.scheduler->speeds()};
    return Explainer(*h.scheduler->state(), h.scheduler->fleet(), h.options, h.now)
        .ShowOne(h.Record(job), &sources)
        .status()
        .waiting();
  }

  absl::Duration After(const google::protobuf::Timestamp& time) { return FromProto(time) - h.now; }
  absl::Duration BoundAfter(const std::string& job) {
    return After(Status(job).start_bound().latest_start_time());
  }

  // 24 h, and the 4 h of HIGH less the 1 h of a NORMAL job.
  const absl::Duration overdue = absl::Hours(27);
};

TEST_F(EstimateTest, DeviceTimeAndCostFollowWhatWorkersMeasured) {
  const std::string a = SubmitSteps("a", 100);
  EXPECT_EQ(Status(a).estimate().device_ms(), 200'000);
  EXPECT_TRUE(Status(a).estimate().measured());
  EXPECT_DOUBLE_EQ(Status(a).estimate().cost(), 0.2);
}

TEST_F(EstimateTest, WithoutAMeasurementFlopsStandInAndSaySo) {
  worker.pass_times.clear();
  ASSERT_TRUE(h.Sync(&worker).ok());
  h.Advance(absl::Seconds(10));
  const std::string a = SubmitSteps("a", 1'000'000);
  // 1e6 steps of 64 tokens, of 4 * 32768 + 6 * 4608 FLOPs, each pass with 64 more tokens of
  // overhead, at 1e11 FLOPs a second.
  EXPECT_NEAR(static_cast<double>(Status(a).estimate().device_ms()),
              1e6 * 128 * (4 * 32768 + 6 * 4608) / 1e11 * 1e3, 1e3);
  EXPECT_FALSE(Status(a).estimate().measured());
}

TEST_F(EstimateTest, AnAcceptedJobSaysByWhenItStartsAtTheLatest) {
  const std::string a = SubmitSteps("a", 100);  // Runs, 200 s.
  EXPECT_EQ(BoundAfter(a), overdue);
  const std::string b = SubmitSteps("b", 50);
  EXPECT_EQ(BoundAfter(b), overdue + absl::Seconds(200));
  const std::string c = SubmitSteps("c", 7);
  EXPECT_EQ(BoundAfter(c), overdue + absl::Seconds(300));
  EXPECT_EQ(Status(c).start_bound().work_ahead_seconds(), 300);
  EXPECT_EQ(Status(c).start_bound().workers(), 1);
  EXPECT_THAT(h.Shown(c).back().message(),
              HasSubstr("at the latest, after 5m of device time ahead on 1 worker"));

  // Nothing of LOW is ahead of HIGH, but what runs.
  v1::CreateJobRequest high = MakeCreateRequest("high");
  high.mutable_job()->set_priority_class(v1::HIGH);
  EXPECT_EQ(BoundAfter(SubmitSteps("high", 1, high)), absl::Hours(24) + absl::Seconds(200));
}

TEST_F(EstimateTest, WorkThatOnlyRunsElsewhereIsNotAhead) {
  v1::CreateJobRequest cuda = MakeCreateRequest("cuda");
  cuda.mutable_job()->mutable_placement()->set_device_kind("cuda");
  const std::string waits = SubmitSteps("cuda", 100, cuda);
  EXPECT_FALSE(Status(waits).has_start_bound());  // Nobody could hold it.
  v1::CreateJobRequest cpu = MakeCreateRequest("cpu");
  cpu.mutable_job()->mutable_placement()->set_device_kind("cpu");
  SubmitSteps("cpu", 100, cpu);
  cpu.set_job_id("cpu2");
  EXPECT_EQ(BoundAfter(SubmitSteps("cpu2", 1, cpu)), overdue + absl::Seconds(200));
}

TEST_F(EstimateTest, ABoundIsGivenOnceThereIsAWorkerAndAgainWhenOneIsLost) {
  v1::CreateJobRequest request = MakeCreateRequest("a");
  request.mutable_job()->mutable_placement()->set_device_kind("cuda");
  const std::string a = SubmitSteps("a", 100, request);
  request.set_job_id("b");
  const std::string b = SubmitSteps("b", 100, request);
  FakeWorker x("x"), y("y");
  for (FakeWorker* w : {&x, &y}) {
    w->environment.set_device_kind("cuda");
    Measure(w);
    w->draining = true;  // Here, and takes no jobs.
    ASSERT_TRUE(h.Sync(w).ok());
  }
  h.Advance(absl::Seconds(10));
  EXPECT_FALSE(Status(b).has_start_bound());

  // Busy with others of the kind: a and b wait.
  for (FakeWorker* w : {&x, &y}) {
    w->draining = false;
    w->environment.set_memory_bytes(1 << 21);
  }
  request.set_job_id("c");
  request.mutable_job()->set_priority_class(v1::HIGH);
  const std::string c = SubmitSteps("c", 1000, request);
  request.set_job_id("d");
  const std::string d = SubmitSteps("d", 1000, request);
  ASSERT_TRUE(h.Sync(&x).ok());
  ASSERT_TRUE(h.Sync(&y).ok());
  ASSERT_EQ(h.StateOfJob(c), v1::RUNNING);
  ASSERT_EQ(h.StateOfJob(d), v1::RUNNING);
  h.Advance(absl::Seconds(2));
  ASSERT_EQ(h.StateOfJob(b), v1::QUEUED);
  EXPECT_EQ(Status(b).start_bound().workers(), 2);
  // Ahead: 2 x 2000 s that run, and 200 s.
  EXPECT_EQ(Status(b).start_bound().work_ahead_seconds(), 4'200);
  const size_t events = h.Shown(b).size();

  // One of them goes.
  y.draining = true;
  ASSERT_TRUE(h.Sync(&y, {Harness::Report(y.answer.assignments(0), kTraining, 1)}).ok());
  h.Advance(absl::Seconds(2));
  EXPECT_EQ(Status(b).start_bound().workers(), 1);
  ASSERT_EQ(h.Shown(b).size(), events + 1);
  EXPECT_THAT(h.Shown(b).back().message(),
              HasSubstr("fewer workers could hold it than the 2 there were: starts by "));
  // It comes back, and goes again: that is no news.
  for (const bool draining : {false, true}) {
    y.draining = draining;
    ASSERT_TRUE(h.Sync(&y, {Harness::Report(y.answer.assignments(0), kTraining, 1)}).ok());
    h.Advance(absl::Seconds(2));
  }
  EXPECT_EQ(h.Shown(b).size(), events + 1);
}

TEST_F(EstimateTest, AWorkerThatIsLostIsNoNewsWhileTheBoundStands) {
  FakeWorker x("x");
  Measure(&x);
  ASSERT_TRUE(h.Sync(&x).ok());
  SubmitSteps("a", 1'000);
  SubmitSteps("b", 1);
  const std::string c = SubmitSteps("c", 1);
  ASSERT_EQ(h.StateOfJob(c), v1::QUEUED);
  EXPECT_EQ(Status(c).start_bound().workers(), 2);
  // Half of the workers, and less than half of the work.
  ASSERT_TRUE(h.Sync(&worker).ok());
  ASSERT_TRUE(h.Sync(&x).ok());
  FakeWorker& with_a = worker.answer.assignments(0).job() == JobName("a") ? worker : x;
  FakeWorker& with_b = &with_a == &worker ? x : worker;
  v1::AttemptReport far = Harness::Report(with_a.answer.assignments(0), kTraining, 900);
  far.set_first_metric_n(1);
  *far.add_metrics() = MakePoint(900, 1);
  ASSERT_TRUE(h.Sync(&with_a, {far}).ok());
  const size_t events = h.Shown(c).size();
  with_b.draining = true;
  ASSERT_TRUE(h.Sync(&with_b, {Harness::Report(with_b.answer.assignments(0), kTraining, 1)}).ok());
  h.Advance(absl::Seconds(2));
  ASSERT_EQ(h.StateOfJob(c), v1::QUEUED);
  EXPECT_EQ(h.Shown(c).size(), events);
  EXPECT_EQ(Status(c).start_bound().workers(), 2);
}

TEST_F(EstimateTest, AnotherClassHasAnotherBound) {
  SubmitSteps("a", 100);
  SubmitSteps("b", 50);
  const std::string c = SubmitSteps("c", 7);
  v1::UpdateJobRequest request;
  request.set_name(c);
  request.set_priority_class(v1::HIGH);
  ASSERT_TRUE(h.Execute(request).ok());
  EXPECT_EQ(BoundAfter(c), absl::Hours(24) + absl::Seconds(200));
}

TEST_F(EstimateTest, JobsStartWhenTheForecastSays) {
  SubmitSteps("a", 100);  // Until 200 s.
  const std::string b = SubmitSteps("b", 50);
  const std::string c = SubmitSteps("c", 10);
  const v1::Waiting first = WaitingOne(b);
  EXPECT_EQ(After(first.earliest_start_time()), absl::Seconds(200));
  EXPECT_EQ(After(first.likely_start_time()), absl::Seconds(200));
  EXPECT_EQ(After(first.likely_start_time_max()), absl::Seconds(200));
  EXPECT_EQ(After(first.likely_end_time()), absl::Seconds(300));
  EXPECT_EQ(After(WaitingOne(c).earliest_start_time()), absl::Seconds(200));
  EXPECT_EQ(After(WaitingOne(c).likely_start_time()), absl::Seconds(300));
  EXPECT_EQ(After(WaitingOne(c).likely_end_time()), absl::Seconds(320));
}

TEST_F(EstimateTest, TheForecastSharesPassesAndFairness) {
  worker.environment.set_memory_bytes((1 << 20) + 3 * ((64 << 10) + (2 << 10)));
  ASSERT_TRUE(h.Sync(&worker).ok());
  const auto any = v1::Placement::COHORT_ANY;
  // Three share the worker: passes of 1 + 3 = 4 s.
  SubmitSteps("a", 10, {}, any);
  SubmitSteps("b", 20, {}, any);
  SubmitSteps("c", 20, {}, any);
  const std::string d = SubmitSteps("d", 10, {}, any);
  ASSERT_EQ(h.StateOfJob(d), v1::QUEUED);
  // `a` is through after 10 passes, d joins, all end 10 passes later.
  EXPECT_EQ(After(WaitingOne(d).likely_start_time()), absl::Seconds(40));
  EXPECT_EQ(After(WaitingOne(d).likely_end_time()), absl::Seconds(80));

  // A tenant that runs nothing goes first, though its job is younger.
  v1::CreateJobRequest other = MakeCreateRequest("e");
  other.set_parent("tenants/u");
  other.mutable_job()->mutable_train()->set_base_model("tenants/u/baseModels/b");
  other.mutable_job()->mutable_train()->set_dataset("tenants/u/datasets/d");
  SubmitSteps("e", 10, other, any);
  EXPECT_EQ(After(WaitingOne("tenants/u/jobs/e").likely_start_time()), absl::Seconds(40));
  EXPECT_EQ(After(WaitingOne(d).likely_start_time()), absl::Seconds(80));
}

TEST_F(EstimateTest, TheForecastKeepsAWorkerForAnOlderJobThatNeedsItEmpty) {
  worker.environment.set_memory_bytes((1 << 20) + 2 * ((64 << 10) + (2 << 10)));
  ASSERT_TRUE(h.Sync(&worker).ok());
  const auto any = v1::Placement::COHORT_ANY;
  // Passes of 3 s until `a` is through, then 10 of 2 s.
  SubmitSteps("a", 10, {}, any);
  SubmitSteps("b", 20, {}, any);
  v1::TrainFacts other_base = MakeSharingFacts(64);
  other_base.set_base_manifest_digest(FakeDigest(2));
  const std::string other = h.Submit(MakeCreateRequest("c"), other_base);
  const std::string joins = SubmitSteps("d", 10, {}, any);
  ASSERT_EQ(h.StateOfJob(joins), v1::QUEUED);
  EXPECT_EQ(After(WaitingOne(other).likely_start_time()), absl::Seconds(50));
  EXPECT_GT(After(WaitingOne(joins).likely_start_time()), absl::Seconds(50));
}

TEST_F(EstimateTest, BeyondAThousandStartsThereAreIntervals) {
  SubmitSteps("a", 100);
  for (int i = 0; i < 1'500; ++i) SubmitSteps(absl::StrCat("j", 1000 + i), 10);
  const v1::Waiting near = WaitingOne(JobName("j1998"));
  EXPECT_EQ(near.queue_position(), 999);
  EXPECT_EQ(near.queue_position_max(), 999);
  EXPECT_EQ(After(near.likely_start_time()), absl::Seconds(200 + 998 * 20));
  const v1::Waiting far = WaitingOne(JobName("j2499"));
  EXPECT_EQ(far.queue_position(), 1'001);  // All were submitted in one second.
  EXPECT_EQ(far.queue_position_max(), 1'500);
  EXPECT_LE(After(far.likely_start_time()), absl::Seconds(200 + 1'499 * 20));
  EXPECT_GE(After(far.likely_start_time()), absl::Seconds(200 + 990 * 20));
  EXPECT_EQ(After(far.likely_start_time_max()), absl::Seconds(200 + 1'499 * 20));
  EXPECT_FALSE(far.has_likely_end_time());
}

TEST_F(EstimateTest, HintsNameWhatWouldHelpAndNothingElse) {
  const auto hints = [&](const std::string& job) {
    const v1::Waiting waiting = WaitingOne(job);
    return std::vector<std::string>(waiting.hints().begin(), waiting.hints().end());
  };
  SubmitSteps("a", 100, {}, v1::Placement::COHORT_ANY);
  const std::string b = SubmitSteps("b", 10);
  EXPECT_THAT(hints(b), ElementsAre(HasSubstr("cohort ANY: it could join the jobs on workers/w")));
  v1::CreateJobRequest request = MakeCreateRequest("c");
  (*request.mutable_job()->mutable_placement()->mutable_worker_labels())["zone"] = "mars";
  request.mutable_job()->set_priority_class(v1::LOW);
  const std::string c = SubmitSteps("c", 10, request, v1::Placement::COHORT_ANY);
  EXPECT_THAT(hints(c), ElementsAre("priority_class HIGH: 0 jobs would be ahead instead of 1",
                                    "no worker_labels: 1 workers would do instead of 0"));
  // There is a larger worker, and it is busy.
  FakeWorker larger = worker;
  larger.name = "workers/larger";
  larger.environment.set_memory_bytes(2 * worker.environment.memory_bytes());
  ASSERT_TRUE(h.Sync(&larger).ok());
  v1::CreateJobRequest large = MakeCreateRequest("d");
  large.mutable_job()->mutable_placement()->set_memory_bytes_min(larger.environment.memory_bytes());
  SubmitSteps("d", 100, large);
  large.set_job_id("e");
  const std::string e = SubmitSteps("e", 10, large);
  EXPECT_THAT(hints(e), Contains("no memory_bytes_min: 2 workers would do instead of 1"));
}

TEST_F(EstimateTest, AJobTooLargeForAllHearsWhatWouldFit) {
  worker.environment.set_memory_bytes((1 << 20) + (1 << 10) + (10 << 10));
  ASSERT_TRUE(h.Sync(&worker).ok());
  v1::CreateJobRequest request = MakeCreateRequest("a");
  (*request.mutable_job()->mutable_placement()->mutable_worker_labels())["zone"] = "mars";
  const std::string a = SubmitSteps("a", 10, request);
  const v1::Waiting waiting = WaitingOne(a);
  EXPECT_THAT(std::vector<std::string>(waiting.hints().begin(), waiting.hints().end()),
              Contains(HasSubstr("micro_batch_tokens of at most 10 ")));
}

// ---- Preview ----

TEST_F(EstimateTest, APreviewSaysWhatAcceptingWouldSayAndMakesNothing) {
  SubmitSteps("a", 100);
  SubmitSteps("b", 50);
  const v1::Job job = CompleteJob(MakeCreateRequest("c").job(), "t", "c").value();
  v1::ValidateTrainingResponse answer;
  *answer.mutable_facts() = MakeSharingFacts(64);
  answer.mutable_facts()->set_total_steps(7);
  answer.add_warnings("3 examples are cut");
  const Explainer::Sources sources = {h.scheduler->workers(), h.scheduler->speeds()};
  const int64_t events = h.scheduler->state()->event_count();
  const v1::EstimateJobResponse preview = PreviewJob(
      job, answer, *h.scheduler->state(), h.scheduler->fleet(), &sources, h.options, h.now);
  EXPECT_EQ(h.scheduler->state()->event_count(), events);
  EXPECT_FALSE(preview.has_failure());
  EXPECT_THAT(preview.warnings(), ElementsAre("3 examples are cut"));
  const v1::JobStatus& status = preview.job().status();
  EXPECT_EQ(status.estimate().device_ms(), 14'000);
  EXPECT_EQ(After(status.start_bound().latest_start_time()), overdue + absl::Seconds(300));
  EXPECT_EQ(After(status.waiting().likely_start_time()), absl::Seconds(300));
  EXPECT_EQ(After(status.waiting().likely_end_time()), absl::Seconds(314));
  EXPECT_EQ(status.waiting().queue_position(), 2);  // b waits.
  EXPECT_EQ(status.waiting().queue_position_max(), 2);
  EXPECT_EQ(preview.job().name(), "");
  EXPECT_EQ(preview.job().train().adapter(), "");
  ASSERT_EQ(preview.workers_size(), 1);
  EXPECT_EQ(preview.workers(0).device_kind(), "cpu");
  EXPECT_EQ(preview.workers(0).online(), 1);
  EXPECT_EQ(preview.workers(0).taking_jobs(), 1);
  EXPECT_EQ(preview.workers(0).fitting(), 1);
  EXPECT_EQ(preview.workers(0).fitting_now(), 0);
  EXPECT_EQ(preview.workers(0).device_ms(), 14'000);
  EXPECT_TRUE(preview.workers(0).measured());
}

TEST_F(EstimateTest, APreviewOfATooLargeJobNamesTheWorkersAndWhy) {
  const v1::Job job = CompleteJob(MakeCreateRequest("c").job(), "t", "c").value();
  v1::ValidateTrainingResponse answer;
  *answer.mutable_facts() = MakeSharingFacts(64);
  answer.mutable_facts()->set_memory_bytes_max(int64_t{1} << 50);
  const Explainer::Sources sources = {h.scheduler->workers(), h.scheduler->speeds()};
  const v1::EstimateJobResponse preview = PreviewJob(
      job, answer, *h.scheduler->state(), h.scheduler->fleet(), &sources, h.options, h.now);
  ASSERT_EQ(preview.workers_size(), 1);
  EXPECT_EQ(preview.workers(0).fitting(), 0);
  EXPECT_EQ(preview.workers(0).reason(), v1::NO_WORKER_WITH_MEMORY);
  EXPECT_EQ(preview.job().status().waiting().reason(), v1::NO_WORKER_WITH_MEMORY);
  EXPECT_FALSE(preview.job().status().has_start_bound());
  EXPECT_FALSE(preview.job().status().waiting().has_likely_start_time());
}

}  // namespace
}  // namespace deltaworks::scheduler

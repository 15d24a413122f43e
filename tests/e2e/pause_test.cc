// Jobs that are interrupted in good order, or by a process that stands still: paused and resumed,
// handed back on SIGTERM, parked while the scheduler is away, taken over from a worker that sleeps.
// Each ends with the bytes of an undisturbed run. And cancelling frees the worker at once.

#include <signal.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/await.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/scrape.h"
#include "tests/e2e/workload.h"

namespace deltaworks::e2e {
namespace {

using ::testing::Contains;

constexpr int64_t kSteps = 120;
// Longer than a lease.
constexpr int64_t kManySteps = 250;

v1::CreateJobRequest LongJob(const std::string& id, int64_t steps = kSteps) {
  v1::CreateJobRequest request = JobRequest(id, steps);
  request.mutable_job()->mutable_train()->mutable_arguments()->set_gradient_accumulation_steps(4);
  return request;
}

class PauseTest : public ::testing::TestWithParam<v1::NumberType> {
 protected:
  void Begin(const Platform::Options& options = {}) {
    platform_ = std::make_unique<Platform>(options);
    ImportBase(*platform_, {.form = GetParam()});
    AddDataset(*platform_, "pairs", 200, 1);
  }
  // Submits; returns the job's name once it has done `step` steps.
  std::string RunUntil(const std::string& id, int64_t step, int64_t steps = kSteps) {
    std::string name = Submit(*platform_, LongJob(id, steps)).name();
    AwaitStep(*platform_, name, step);
    return name;
  }
  v1::Job AwaitState(const std::string& name, v1::JobState state) {
    return AwaitJob(*platform_, name,
                    [state](const v1::Job& job) { return job.status().state() == state; });
  }
  // Of a run that nobody disturbed. Run once in this process: it is the same on every platform.
  std::string UndisturbedDigest(int64_t steps) {
    static auto* const digests = new std::map<std::pair<v1::NumberType, int64_t>, std::string>;
    std::string& digest = (*digests)[{GetParam(), steps}];
    if (digest.empty()) {
      const v1::Job job = RunToSuccess(*platform_, LongJob("undisturbed", steps));
      digest = job.status().result().adapter_digest();
    }
    return digest;
  }
  v1::Job ExpectSameBytes(const std::string& name, int64_t steps = kSteps) {
    v1::Job job = AwaitEnd(*platform_, name);
    EXPECT_EQ(job.status().state(), v1::SUCCEEDED) << Describe(job);
    EXPECT_EQ(job.status().result().adapter_digest(), UndisturbedDigest(steps)) << Describe(job);
    return job;
  }
  std::vector<v1::JobReason> Reasons(const std::string& name) {
    std::vector<v1::JobReason> reasons;
    for (const v1::JobEvent& event : HistoryOf(*platform_, name).events) {
      reasons.push_back(event.reason());
    }
    return reasons;
  }

  std::unique_ptr<Platform> platform_;
};

TEST_P(PauseTest, APausedJobKeepsItsStepsAndGoesOnWithTheSameBytes) {
  Begin();
  const std::string name = RunUntil("paused", kSteps / 3);
  v1::PauseJobRequest pause;
  pause.set_name(name);
  const v1::Job pausing = Must(platform_->training_of().PauseJob(pause));
  EXPECT_EQ(pausing.status().state(), v1::PAUSING) << Describe(pausing);
  const v1::Job paused = AwaitState(name, v1::PAUSED);
  EXPECT_GE(paused.status().checkpoint().step(), kSteps / 3);
  EXPECT_LT(paused.status().checkpoint().step(), kSteps);

  // The worker is free: another job runs, though this one was first.
  UndisturbedDigest(kSteps);
  RunToSuccess(*platform_, LongJob("between", 10));
  EXPECT_EQ(GetJob(*platform_, name).status().state(), v1::PAUSED);

  v1::ResumeJobRequest resume;
  resume.set_name(name);
  Must(platform_->training_of().ResumeJob(resume));
  const v1::Job job = ExpectSameBytes(name);
  ASSERT_EQ(job.status().attempts_size(), 2) << job.DebugString();
  EXPECT_EQ(job.status().attempts(1).start_step(), paused.status().checkpoint().step());
  EXPECT_EQ(job.status().retries_used(), 0);
}

TEST_P(PauseTest, AWorkerThatIsToldToStopHandsItsJobBack) {
  Begin();
  const std::string name = RunUntil("drained", kSteps / 3);
  EXPECT_EQ(platform_->worker().Terminate(), 0);
  const v1::Job queued = AwaitState(name, v1::QUEUED);
  EXPECT_EQ(queued.status().reason(), v1::DRAINED) << Describe(queued);
  EXPECT_GE(queued.status().checkpoint().step(), kSteps / 3);
  platform_->worker().Start();
  const v1::Job job = ExpectSameBytes(name);
  EXPECT_EQ(job.status().retries_used(), 0);
  EXPECT_EQ(job.status().attempts(1).start_step(), queued.status().checkpoint().step());
}

TEST_P(PauseTest, ASchedulerThatStopsLeavesTheJobsToTheirWorkers) {
  Begin();
  const std::string name = RunUntil("scheduler-stopped", kSteps / 3);
  EXPECT_EQ(platform_->scheduler().Terminate(), 0);
  platform_->scheduler().Start();
  const v1::Job job = ExpectSameBytes(name);
  EXPECT_EQ(job.status().attempt_count(), 1) << "a restart of the scheduler costs no attempt";
}

// Two things are due when it wakes, the end of the lease and the worker's report; if the report
// comes second the job goes on from its checkpoint.
TEST_P(PauseTest, ASchedulerThatStandsStillLongerThanALeaseChangesNoByte) {
  Begin();
  const std::string name = RunUntil("scheduler-stands", 10, kManySteps);
  const auto lapsed = [this] {
    return Sample(Scrape(platform_->worker().metrics_address()),
                  "deltaworks_worker_leases_lapsed_total");
  };
  platform_->scheduler().Signal(SIGSTOP);
  EXPECT_TRUE(Await(kPatience, [&] { return lapsed() >= 1; })) << "the lease does not end";
  platform_->scheduler().Signal(SIGCONT);
  ExpectSameBytes(name, kManySteps);
  EXPECT_EQ(VersionsOf(*platform_, "tenants/acme/adapters/scheduler-stands").size(), 1u);
}

TEST_P(PauseTest, AWorkerThatSleptThroughItsLeasePublishesNothing) {
  Begin({.devices = {"cpu:0", "cpu:1"}});
  const std::string name = RunUntil("slept", kSteps / 3);
  const std::string sleeper = GetJob(*platform_, name).status().attempts(0).worker();
  Service& worker = platform_->worker(sleeper == "workers/e2e-cpu-0" ? 0 : 1);
  worker.Signal(SIGSTOP);
  // The other one takes over; then the first wakes up and still thinks that it trains.
  AwaitJob(*platform_, name, [&](const v1::Job& job) {
    return job.status().attempt_count() == 2 && job.status().state() == v1::RUNNING;
  });
  worker.Signal(SIGCONT);
  const v1::Job job = ExpectSameBytes(name);
  EXPECT_EQ(job.status().attempt_count(), 2);
  EXPECT_NE(job.status().attempts(1).worker(), sleeper);
  EXPECT_THAT(Reasons(name), Contains(v1::WORKER_LOST));
  EXPECT_EQ(VersionsOf(*platform_, "tenants/acme/adapters/slept").size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(OfEachType, PauseTest, ::testing::Values(v1::F32, v1::BF16),
                         [](const auto& info) { return v1::NumberType_Name(info.param); });

TEST(CancelTest, FreesTheWorkerWithinOneStep) {
  Platform platform({.lease = absl::Seconds(20)});
  ImportBase(platform);
  AddDataset(platform, "pairs", 200, 1);
  // It would take days, at some 200 ms a step.
  v1::CreateJobRequest endless = JobRequest("endless", 1'000'000);
  endless.mutable_job()->mutable_train()->mutable_arguments()->set_gradient_accumulation_steps(256);
  const std::string name = Submit(platform, endless).name();
  AwaitStep(platform, name, 2);
  constexpr int64_t kNextSteps = 20;
  const std::string next = Submit(platform, JobRequest("next", kNextSteps)).name();
  AwaitJob(platform, next, [](const v1::Job& job) { return job.status().state() == v1::QUEUED; });
  EXPECT_EQ(GetJob(platform, next).status().waiting().reason(), v1::WORKERS_BUSY);

  const auto steps = [&platform] {
    return Sample(Scrape(platform.worker().metrics_address()), "deltaworks_worker_steps_total");
  };
  v1::CancelJobRequest cancel;
  cancel.set_name(name);
  const double steps_before = steps();
  const v1::Job cancelling = Must(platform.training_of().CancelJob(cancel));
  EXPECT_TRUE(cancelling.status().state() == v1::CANCELLING ||
              cancelling.status().state() == v1::CANCELLED)
      << Describe(cancelling);
  const v1::Job cancelled = AwaitEnd(platform, name);
  EXPECT_EQ(cancelled.status().state(), v1::CANCELLED) << Describe(cancelled);
  const v1::Job done = AwaitEnd(platform, next);
  EXPECT_EQ(done.status().state(), v1::SUCCEEDED) << Describe(done);
  // Far less than the lease: it was not waited for.
  const auto gap = absl::Seconds(done.start_time().seconds() - cancelled.end_time().seconds());
  EXPECT_LE(gap, absl::Seconds(2));
  // The step under way, and one that may have begun while the order was on its way.
  EXPECT_LE(steps() - steps_before, 2 + kNextSteps);
}

}  // namespace
}  // namespace deltaworks::e2e

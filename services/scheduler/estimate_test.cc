// Estimates through the core: jobs that are not made, what is told of those that wait, and how far
// that was from what came.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/proto_time.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/testing/core_world.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

using Answer = std::optional<absl::StatusOr<v1::EstimateJobResponse>>;

class EstimateTest : public ::testing::Test {
 protected:
  EstimateTest() : world_("estimate") {}

  static v1::EstimateJobRequest Request() {
    v1::EstimateJobRequest request;
    request.set_parent("tenants/t");
    *request.mutable_job() = scheduler::MakeCreateRequest("x").job();
    return request;
  }

  // Answered when the store has answered.
  void Ask(const v1::EstimateJobRequest& request, Answer* answer) {
    world_.core->EstimateJob(request, [answer](auto response) { *answer = std::move(response); });
    world_.loop.RunReady();
  }

  absl::StatusOr<v1::EstimateJobResponse> Estimate(const v1::EstimateJobRequest& request) {
    Answer answer;
    Ask(request, &answer);
    return *answer;
  }

  v1::Job GetWithEstimates(const std::string& job) {
    return *world_.Read<v1::Job>([&](const CommittedView& view) {
      return view.ShowWithEstimates(*view.state.FindJob(job));
    });
  }

  CoreWorld world_;
  ScriptedWorker worker_{"w"};
};

TEST_F(EstimateTest, NothingIsStored) {
  world_.Sync(worker_);
  const auto estimate = Estimate(Request());
  ASSERT_TRUE(estimate.ok()) << estimate.status();
  EXPECT_FALSE(estimate->has_failure());
  EXPECT_GT(estimate->job().status().estimate().device_ms(), 0);
  EXPECT_EQ(estimate->job().status().facts().total_steps(), 100);
  EXPECT_EQ(estimate->workers_size(), 1);
  EXPECT_EQ(world_.Metric("deltaworks_scheduler_jobs_created_total"), 0);
}

TEST_F(EstimateTest, WhatIsWrongIsNamedAsCreateJobNamesIt) {
  v1::EstimateJobRequest request = Request();
  request.mutable_job()->mutable_train()->mutable_lora()->set_rank(0);
  EXPECT_THAT(Estimate(request).status().message(), HasSubstr("job.train.lora.rank is 0"));
  request = Request();
  request.mutable_job()->mutable_timing()->mutable_deadline()->set_seconds(1);
  EXPECT_THAT(Estimate(request).status().message(), HasSubstr("job.timing.deadline is "));
  request.clear_parent();
  EXPECT_THAT(Estimate(request).status().message(), HasSubstr("parent"));

  world_.store.SetValidator([](const auto&) {
    v1::ValidateTrainingResponse response;
    response.mutable_failure()->set_code("NO_SUCH_DATASET");
    return response;
  });
  const auto invalid = Estimate(Request());
  ASSERT_TRUE(invalid.ok());
  EXPECT_EQ(invalid->failure().code(), "NO_SUCH_DATASET");
}

TEST_F(EstimateTest, AStoreThatDoesNotAnswerIsUnavailable) {
  world_.store.SetValidator([](const auto&) -> absl::StatusOr<v1::ValidateTrainingResponse> {
    return absl::DeadlineExceededError("too slow");
  });
  const auto answer = Estimate(Request());
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
  EXPECT_THAT(answer.status().message(), HasSubstr("too slow"));
}

TEST_F(EstimateTest, OnlySoManyAreUnderWayAndAStopAnswersThem) {
  world_.pool.hold = true;
  std::vector<Answer> answers(9);
  for (Answer& answer : answers) Ask(Request(), &answer);
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(answers[i].has_value());
  ASSERT_TRUE(answers[8].has_value());
  EXPECT_TRUE(absl::IsResourceExhausted(answers[8]->status()));
  EXPECT_EQ(world_.Metric("deltaworks_scheduler_refused_total{limit=\"estimates\"}"), 1);
  world_.core->Stop();
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(answers[i].has_value());
    EXPECT_TRUE(absl::IsUnavailable(answers[i]->status()));
  }
  world_.pool.RunHeld();
  world_.loop.RunReady();
}

TEST_F(EstimateTest, WhatCameIsComparedWithWhatWasTold) {
  worker_.SetStepTime(absl::Milliseconds(50));
  world_.Sync(worker_);
  const std::string a = world_.Submit("a");
  const std::string b = world_.Submit("b");
  ASSERT_EQ(world_.StateOf(a), v1::RUNNING);
  ASSERT_EQ(world_.StateOf(b), v1::QUEUED);
  EXPECT_TRUE(GetWithEstimates(b).status().waiting().has_likely_end_time());
  EXPECT_TRUE(GetWithEstimates(b).status().has_start_bound());
  EXPECT_FALSE(world_.Get(b)->status().waiting().has_likely_start_time());
  world_.Finish(worker_);
  ASSERT_EQ(world_.StateOf(b), v1::SUCCEEDED);
  const auto count = [&](const char* estimate) {
    return world_.Metric(
        absl::StrCat("deltaworks_scheduler_estimate_ratio_count{estimate=\"", estimate, "\"}"));
  };
  EXPECT_EQ(count("device_time"), 2);
  EXPECT_EQ(count("start"), 1);
  EXPECT_EQ(count("end"), 1);
}

}  // namespace
}  // namespace deltaworks::services

// Jobs of different ranks and data that one worker trains together: each ends with the bytes of a
// run alone, also if one of them is paused and another cancelled on the way, and if the worker is
// killed.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/e2e/platform.h"
#include "tests/e2e/scrape.h"
#include "tests/e2e/workload.h"

namespace deltaworks::e2e {
namespace {

constexpr int kJobs = 3;
constexpr int64_t kSteps = 80;

// The i-th of three jobs that differ in everything that may differ within a cohort.
v1::CreateJobRequest CohortJob(const std::string& id, int i) {
  v1::CreateJobRequest request = JobRequest(id, kSteps);
  v1::TrainSpec& spec = *request.mutable_job()->mutable_train();
  spec.set_dataset(absl::StrCat("tenants/acme/datasets/pairs-", i));
  spec.mutable_lora()->set_rank(2 << i);
  if (i == 1) spec.mutable_lora()->add_target_modules("q_proj");
  v1::TrainingArguments& arguments = *spec.mutable_arguments();
  arguments.set_per_device_train_batch_size(8 + 4 * i);
  arguments.set_gradient_accumulation_steps(4);
  arguments.set_learning_rate(1e-3 * (i + 1));
  arguments.set_seed(i);
  return request;
}

class CohortTest : public ::testing::TestWithParam<v1::NumberType> {
 protected:
  CohortTest() {
    ImportBase(platform_, {.form = GetParam()});
    for (int i = 0; i < kJobs; ++i) {
      AddDataset(platform_, absl::StrCat("pairs-", i), 100, static_cast<uint32_t>(i) + 1);
      const v1::Job solo = RunToSuccess(platform_, CohortJob(absl::StrCat("solo-", i), i));
      solo_.push_back(solo.status().result().adapter_digest());
    }
  }

  // Submits all of them; returns their names once each has done a step or more.
  std::vector<std::string> StartTogether() {
    std::vector<std::string> names;
    for (int i = 0; i < kJobs; ++i) {
      names.push_back(Submit(platform_, CohortJob(absl::StrCat("together-", i), i)).name());
    }
    for (const std::string& name : names) AwaitStep(platform_, name, 1);
    EXPECT_EQ(Sample(Scrape(platform_.worker().metrics_address()), "deltaworks_worker_cohort_runs"),
              kJobs);
    return names;
  }

  void ExpectSoloBytes(const std::string& name, int i) {
    const v1::Job job = AwaitEnd(platform_, name);
    EXPECT_EQ(job.status().state(), v1::SUCCEEDED) << Describe(job);
    EXPECT_EQ(job.status().result().adapter_digest(), solo_[static_cast<size_t>(i)])
        << Describe(job);
  }

  Platform platform_{{.attempts_per_worker = kJobs}};
  std::vector<std::string> solo_;
};

TEST_P(CohortTest, JobsTrainedTogetherEndWithTheBytesOfRunsAlone) {
  const std::vector<std::string> names = StartTogether();
  for (int i = 0; i < kJobs; ++i) ExpectSoloBytes(names[static_cast<size_t>(i)], i);
}

TEST_P(CohortTest, SoDoThoseWhoseNeighboursArePausedAndCancelled) {
  const std::vector<std::string> names = StartTogether();
  v1::PauseJobRequest pause;
  pause.set_name(names[0]);
  Must(platform_.training_of().PauseJob(pause));
  v1::CancelJobRequest cancel;
  cancel.set_name(names[1]);
  Must(platform_.training_of().CancelJob(cancel));
  EXPECT_EQ(AwaitEnd(platform_, names[1]).status().state(), v1::CANCELLED);
  AwaitJob(platform_, names[0],
           [](const v1::Job& job) { return job.status().state() == v1::PAUSED; });
  v1::ResumeJobRequest resume;
  resume.set_name(names[0]);
  Must(platform_.training_of().ResumeJob(resume));
  ExpectSoloBytes(names[0], 0);
  ExpectSoloBytes(names[2], 2);
}

TEST_P(CohortTest, SoDoThoseWhoseWorkerIsKilled) {
  const std::vector<std::string> names = StartTogether();
  platform_.worker().KillAndStart();
  for (int i = 0; i < kJobs; ++i) ExpectSoloBytes(names[static_cast<size_t>(i)], i);
}

INSTANTIATE_TEST_SUITE_P(OfEachType, CohortTest, ::testing::Values(v1::F32, v1::BF16),
                         [](const auto& info) { return v1::NumberType_Name(info.param); });

}  // namespace
}  // namespace deltaworks::e2e

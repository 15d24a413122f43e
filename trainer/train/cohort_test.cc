// Training as a run sees it, on the backend that this machine would use: it learns, a checkpoint is
// all of it, and what cannot be trained is named. That neighbours, kills and threads change no byte
// is the subject of training_exactness_test.cc.

#include "trainer/train/cohort.h"

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/train/training_case.h"

namespace deltaworks::trainer {
namespace {

struct Param {
  DType type;
  int threads;
};

class CohortTest : public ::testing::TestWithParam<Param> {
 protected:
  const RandomModel weights_{SmallConfig(), GetParam().type, /*seed=*/3};
  Machine machine_{*NewCpuBackend({.compute_type = GetParam().type, .threads = GetParam().threads}),
                   weights_};
};

TEST_P(CohortTest, TrainingLowersTheLoss) {
  TrainingJob job = Jobs(1)[0];
  job.data = RandomData(1, 4, 0);
  job.config.per_device_train_batch_size = 4;
  job.config.max_steps = 150;
  job.config.lora.rank = 8;
  job.config.lora.lora_dropout = 0;
  job.config.lr_scheduler_type = LrSchedulerType::kConstant;
  const auto metrics = machine_.Alone(job).metrics;
  // Four examples can be learnt by heart, up to what the frozen output layer can say: the last norm
  // gives |h| = sqrt(24), its rows have |w| = 0.2 sqrt(24), so the best token's logit is at
  // most 4.8 and the others' are normal with deviation 1: p = e^4.8 / (e^4.8 + 49 e^0.5) = 0.6,
  // loss 0.5.
  EXPECT_GT(metrics.begin()->second.loss, 3);
  EXPECT_LT(metrics.rbegin()->second.loss, 0.7);
}

TEST_P(CohortTest, ACheckpointIsAllThatARunIsAtTheEndOfEachStep) {
  for (const TrainingJob& job : Jobs(3)) {
    const TrainingResult alone = machine_.Alone(job);
    auto run = machine_.NewRun(job);
    std::vector<StepMetrics> metrics;
    while (run->active()) {
      for (const RunMetrics& step : machine_.Pass({run.get()})) metrics.push_back(step.metrics);
      if (!run->at_step_boundary()) continue;
      // Evaluations begin again, and so does the one before the first step.
      if (run->evaluating() || run->step() == 0) continue;
      const std::string checkpoint = run->SaveCheckpoint();
      run = machine_.NewRun(job);
      ASSERT_TRUE(run->RestoreCheckpoint(checkpoint).ok());
      EXPECT_EQ(run->SaveCheckpoint(), checkpoint);
    }
    EXPECT_TRUE(run->finished());
    EXPECT_EQ(AdapterDigest(*run), alone.digest);
    std::vector<StepMetrics> want;
    for (const auto& [step, of_step] : alone.metrics) want.push_back(of_step);
    EXPECT_EQ(metrics, want);
  }
}

TEST_P(CohortTest, ACheckpointOfSomethingElseIsRefused) {
  const TrainingJob job = Jobs(1)[0];
  const auto run = machine_.NewRun(job);
  const std::string checkpoint = run->SaveCheckpoint();
  TrainingJob other = job;
  other.config.seed = 5;
  EXPECT_TRUE(absl::IsFailedPrecondition(machine_.NewRun(other)->RestoreCheckpoint(checkpoint)));
  const auto elsewhere =
      *TrainingRun::Create(machine_.model(), job.config, job.data, {"sha256:other", "sha256:data"});
  EXPECT_EQ(elsewhere->RestoreCheckpoint(checkpoint).message(),
            "checkpoint: base_digest is \"sha256:base\", want \"sha256:other\"");
  EXPECT_TRUE(absl::IsInvalidArgument(
      run->RestoreCheckpoint(absl::string_view(checkpoint).substr(0, checkpoint.size() - 1))));
  EXPECT_TRUE(run->RestoreCheckpoint(checkpoint).ok());
}

TEST_P(CohortTest, DataThatCannotBeTrainedIsNamed) {
  const auto error = [&](const TrainingConfig& config, TrainingData data) {
    const auto run = TrainingRun::Create(machine_.model(), config,
                                         std::make_shared<const TrainingData>(std::move(data)), {});
    EXPECT_TRUE(absl::IsInvalidArgument(run.status())) << run.status();
    return std::string(run.status().message());
  };
  const Example good{{1, 2, 3}, {false, false, true}};
  EXPECT_EQ(error({}, {}), "the dataset has 0 examples, want at least 1");
  EXPECT_EQ(error({}, {.train = {good, {{1}, {false}}}}),
            "training example 1 has 1 tokens, want 2..64");
  EXPECT_EQ(error({.micro_batch_tokens = 2}, {.train = {good}}),
            "training example 0 has 3 tokens, want 2..2");
  EXPECT_EQ(error({}, {.train = {{{1, 2}, {true, false}}}}),
            "training example 0 has no label token, want at least one");
  EXPECT_EQ(error({}, {.train = {good}, .validation = {{{1, 50}, {false, true}}}}),
            "validation example 0 has token 50, want 0..49");
  EXPECT_EQ(error({.learning_rate = -1}, {.train = {good}}),
            "learning_rate is -1, want 0 < rate <= 10");
  TrainingConfig rank_zero;
  rank_zero.lora.rank = 0;
  EXPECT_EQ(error(rank_zero, {.train = {good}}), "rank is 0, want 1..1024");
}

INSTANTIATE_TEST_SUITE_P(Cpu, CohortTest,
                         ::testing::Values(Param{DType::kF32, 1}, Param{DType::kF32, 3},
                                           Param{DType::kBF16, 2}),
                         [](const ::testing::TestParamInfo<Param>& info) {
                           return absl::StrCat(NameOf(info.param.type), "With", info.param.threads,
                                               "Threads");
                         });

}  // namespace
}  // namespace deltaworks::trainer

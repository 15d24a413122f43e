// The promise of the engine: an adapter trained with others, or killed and resumed, has the bytes
// of the one trained alone and undisturbed, on any number of threads, in f32 and in bf16; and a run
// that diverges harms nobody.

#include "trainer/train/cohort.h"

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/base/sha256.h"
#include "trainer/lora/peft_format.h"
#include "trainer/testing/random_model.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const TrainingData> RandomData(uint64_t seed, int train, int validation) {
  std::mt19937_64 random(seed);
  const auto example = [&] {
    Example result;
    const int tokens = 3 + static_cast<int>(random() % 38);
    for (int i = 0; i < tokens; ++i) {
      result.ids.push_back(static_cast<int32_t>(random() % 50));
      result.is_label.push_back(i > tokens / 3);
    }
    return result;
  };
  auto data = std::make_shared<TrainingData>();
  for (int i = 0; i < train; ++i) data->train.push_back(example());
  for (int i = 0; i < validation; ++i) data->validation.push_back(example());
  return data;
}

struct Job {
  TrainingConfig config;
  std::shared_ptr<const TrainingData> data;
};

// Jobs that differ in everything that may differ.
std::vector<Job> Jobs(int count) {
  std::vector<Job> jobs;
  for (int i = 0; i < count; ++i) {
    Job job;
    job.data = RandomData(100 + i, 20 + 7 * i, i % 2 == 0 ? 5 : 0);
    job.config.lora.rank = std::vector<int>{1, 4, 3, 8, 17}[i % 5];
    job.config.lora.lora_dropout = i % 3 == 0 ? 0.1 : 0;
    if (i % 4 == 1) job.config.lora.target_modules = {"q_proj", "v_proj"};
    if (i % 4 == 2)
      job.config.lora.target_modules = {"down_proj", "model.layers.1.self_attn.k_proj"};
    job.config.learning_rate = 1e-2 / (i + 1);
    job.config.per_device_train_batch_size = 2 + i % 5;
    job.config.max_steps = 6 + i % 4;
    job.config.eval_steps = 3;
    job.config.seed = 1000 + i;
    job.config.micro_batch_tokens = 40 + 60 * (i % 3);
    jobs.push_back(std::move(job));
  }
  return jobs;
}

struct Param {
  DType type;
  int threads;
};

class CohortTest : public ::testing::TestWithParam<Param> {
 protected:
  CohortTest() : weights_(SmallConfig(), GetParam().type, /*seed=*/3) {
    backend_ = *NewCpuBackend({.compute_type = GetParam().type, .threads = GetParam().threads});
    auto model =
        Llama::Create(*backend_, weights_.config(), weights_.tensors(), {.positions_max = 64});
    CHECK(model.ok()) << model.status();
    model_ = std::move(*model);
  }

  std::unique_ptr<TrainingRun> NewRun(const Job& job) {
    auto run = TrainingRun::Create(*model_, job.config, job.data, {"sha256:base", "sha256:data"});
    CHECK(run.ok()) << run.status();
    return std::move(*run);
  }

  // The digest that users see.
  static std::string AdapterDigest(const TrainingRun& run) {
    return Sha256Digest(SerializePeft(run.config().lora, run.adapter().tensors(),
                                      run.adapter().ReadParameters(), "base", "sha256:base")
                            .adapter_model);
  }

  std::vector<StepMetrics> Pass(const std::vector<TrainingRun*>& runs, TrainingRun* of) {
    const auto metrics = cohort().Pass(runs);
    CHECK(metrics.ok()) << metrics.status();
    std::vector<StepMetrics> own;
    for (const RunMetrics& step : *metrics) {
      if (step.run == of) own.push_back(step.metrics);
    }
    return own;
  }

  struct Result {
    std::string digest;
    std::vector<StepMetrics> metrics;
  };
  Result Alone(const Job& job) {
    const auto run = NewRun(job);
    Result result;
    while (run->active()) {
      for (const StepMetrics& step : Pass({run.get()}, run.get())) result.metrics.push_back(step);
    }
    CHECK(run->status().ok()) << run->status();
    result.digest = AdapterDigest(*run);
    return result;
  }

  Cohort& cohort() {
    if (cohort_ == nullptr) cohort_ = std::make_unique<Cohort>(*model_);
    return *cohort_;
  }

  const RandomModel weights_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Llama> model_;
  std::unique_ptr<Cohort> cohort_;
};

TEST_P(CohortTest, TrainingLowersTheLoss) {
  Job job = Jobs(1)[0];
  job.data = RandomData(1, 4, 0);
  job.config.per_device_train_batch_size = 4;
  job.config.max_steps = 150;
  job.config.lora.rank = 8;
  job.config.lora.lora_dropout = 0;
  job.config.lr_scheduler_type = LrSchedulerType::kConstant;
  const Result result = Alone(job);
  // Four examples can be learnt by heart, up to what the frozen output layer can say: the last norm
  // gives |h| = sqrt(24), its rows have |w| = 0.2 sqrt(24), so the best token's logit is at
  // most 4.8 and the others' are normal with deviation 1: p = e^4.8 / (e^4.8 + 49 e^0.5) = 0.6,
  // loss 0.5.
  EXPECT_GT(result.metrics.front().loss, 3);
  EXPECT_LT(result.metrics.back().loss, 0.7);
}

TEST_P(CohortTest, ATrainedTogetherAdapterHasTheBytesOfTheSoloOne) {
  const std::vector<Job> jobs = Jobs(8);
  std::vector<Result> alone;
  for (const Job& job : jobs) alone.push_back(Alone(job));
  std::vector<std::unique_ptr<TrainingRun>> runs;
  std::vector<TrainingRun*> pointers;
  for (const Job& job : jobs) {
    runs.push_back(NewRun(job));
    pointers.push_back(runs.back().get());
  }
  const auto active = [&] {
    return std::any_of(runs.begin(), runs.end(), [](const auto& run) { return run->active(); });
  };
  while (active()) ASSERT_TRUE(cohort().Pass(pointers).ok());
  for (size_t i = 0; i < jobs.size(); ++i) {
    EXPECT_EQ(AdapterDigest(*runs[i]), alone[i].digest) << "job " << i;
  }
}

TEST_P(CohortTest, NeighboursMayJoinAndLeaveAtAnyPass) {
  const std::vector<Job> jobs = Jobs(6);
  const Result alone = Alone(jobs[0]);
  std::mt19937_64 random(17);
  const auto run = NewRun(jobs[0]);
  Result together;
  while (run->active()) {
    std::vector<std::unique_ptr<TrainingRun>> others;
    std::vector<TrainingRun*> runs;
    for (size_t i = 1; i < jobs.size(); ++i) {
      if (random() % 2 == 0) continue;
      others.push_back(NewRun(jobs[i]));
      runs.push_back(others.back().get());
    }
    runs.insert(runs.begin() + static_cast<int64_t>(random() % (runs.size() + 1)), run.get());
    for (const StepMetrics& step : Pass(runs, run.get())) together.metrics.push_back(step);
  }
  EXPECT_EQ(AdapterDigest(*run), alone.digest);
  EXPECT_EQ(together.metrics, alone.metrics);
}

TEST_P(CohortTest, AResumedRunHasTheBytesAndMetricsOfTheUninterruptedOne) {
  for (const Job& job : Jobs(5)) {
    const Result alone = Alone(job);
    auto run = NewRun(job);
    Result resumed;
    std::mt19937_64 random(job.config.seed);
    while (run->active()) {
      for (const StepMetrics& step : Pass({run.get()}, run.get())) resumed.metrics.push_back(step);
      if (!run->at_step_boundary() || random() % 3 != 0) continue;
      const std::string checkpoint = run->SaveCheckpoint();
      run = NewRun(job);
      ASSERT_TRUE(run->RestoreCheckpoint(checkpoint).ok());
      EXPECT_EQ(run->SaveCheckpoint(), checkpoint);
    }
    EXPECT_EQ(AdapterDigest(*run), alone.digest);
    const std::string last = run->SaveCheckpoint();
    run = NewRun(job);
    ASSERT_TRUE(run->RestoreCheckpoint(last).ok());
    EXPECT_TRUE(run->finished());
    EXPECT_EQ(AdapterDigest(*run), alone.digest);
    // The evaluation before the first step may have been repeated.
    resumed.metrics.erase(std::unique(resumed.metrics.begin(), resumed.metrics.end()),
                          resumed.metrics.end());
    EXPECT_EQ(resumed.metrics, alone.metrics);
  }
}

TEST_P(CohortTest, ARunThatDivergesCostsItsNeighboursNothing) {
  std::vector<Job> jobs = Jobs(3);
  jobs[1].config.learning_rate = 10;
  jobs[1].config.max_grad_norm = 0;
  jobs[1].config.lora.lora_alpha = 60000;
  jobs[1].config.max_steps = 1000;
  std::vector<std::unique_ptr<TrainingRun>> runs;
  std::vector<TrainingRun*> pointers;
  for (const Job& job : jobs) {
    runs.push_back(NewRun(job));
    pointers.push_back(runs.back().get());
  }
  // Weights that are no number: what divergence looks like from inside.
  std::vector<float> broken = runs[1]->adapter().ReadParameters();
  std::fill(broken.begin(), broken.end(), std::nanf(""));
  ASSERT_TRUE(runs[1]->StartFrom(broken).ok());
  while (runs[0]->active() || runs[2]->active()) ASSERT_TRUE(cohort().Pass(pointers).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(runs[1]->status()));
  EXPECT_THAT(std::string(runs[1]->status().message()),
              HasSubstr("training diverged at step 1: loss is nan"));
  EXPECT_EQ(AdapterDigest(*runs[0]), Alone(jobs[0]).digest);
  EXPECT_EQ(AdapterDigest(*runs[2]), Alone(jobs[2]).digest);
}

TEST_P(CohortTest, AccumulationEqualsTheBigBatch) {
  Job job = Jobs(1)[0];
  job.config.lora.lora_dropout = 0;
  job.config.micro_batch_tokens = 1000;
  job.config.per_device_train_batch_size = 8;
  Job accumulated = job;
  accumulated.config.per_device_train_batch_size = 2;
  accumulated.config.gradient_accumulation_steps = 4;
  EXPECT_EQ(Alone(accumulated).digest, Alone(job).digest);
  // Cut into micro-batches the sums are rounded in other places.
  accumulated.config.micro_batch_tokens = 41;
  const Result cut = Alone(accumulated), whole = Alone(job);
  ASSERT_EQ(cut.metrics.size(), whole.metrics.size());
  for (size_t i = 0; i < cut.metrics.size(); ++i) {
    if (cut.metrics[i].step != 1) continue;
    EXPECT_EQ(cut.metrics[i].loss, whole.metrics[i].loss);
    EXPECT_NEAR(cut.metrics[i].grad_norm, whole.metrics[i].grad_norm,
                1e-6 * whole.metrics[i].grad_norm);
  }
}

TEST_P(CohortTest, TheNumberOfThreadsChangesNoByte) {
  const Job job = Jobs(1)[0];
  const std::string digest = Alone(job).digest;
  const auto backend = *NewCpuBackend({.compute_type = GetParam().type, .threads = 1});
  const auto model =
      *Llama::Create(*backend, weights_.config(), weights_.tensors(), {.positions_max = 64});
  const auto run =
      *TrainingRun::Create(*model, job.config, job.data, {"sha256:base", "sha256:data"});
  Cohort cohort(*model);
  while (run->active()) ASSERT_TRUE(cohort.Pass({run.get()}).ok());
  EXPECT_EQ(AdapterDigest(*run), digest);
}

TEST_P(CohortTest, ACheckpointOfSomethingElseIsRefused) {
  const Job job = Jobs(1)[0];
  const auto run = NewRun(job);
  const std::string checkpoint = run->SaveCheckpoint();
  Job other = job;
  other.config.seed = 5;
  EXPECT_TRUE(absl::IsFailedPrecondition(NewRun(other)->RestoreCheckpoint(checkpoint)));
  const auto elsewhere =
      *TrainingRun::Create(*model_, job.config, job.data, {"sha256:other", "sha256:data"});
  EXPECT_EQ(elsewhere->RestoreCheckpoint(checkpoint).message(),
            "checkpoint: base_digest is \"sha256:base\", want \"sha256:other\"");
  EXPECT_TRUE(absl::IsInvalidArgument(
      run->RestoreCheckpoint(absl::string_view(checkpoint).substr(0, checkpoint.size() - 1))));
  EXPECT_TRUE(run->RestoreCheckpoint(checkpoint).ok());
}

TEST_P(CohortTest, DataThatCannotBeTrainedIsNamed) {
  const auto error = [&](const TrainingConfig& config, TrainingData data) {
    const auto run = TrainingRun::Create(*model_, config,
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

// The promise of the engine, over whole trainings: an adapter has the bytes of the one trained
// alone and undisturbed on one thread, whoever trained beside it, however often it was killed, on
// any number of threads, with the kernels of each instruction set. What a micro-batch holds is part
// of the job: another limit is another order of sums, and costs no more than rounding.

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/backend/parity/backends.h"
#include "trainer/train/training_case.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

class TrainingExactnessTest : public ::testing::TestWithParam<TestedBackend> {
 protected:
  TrainingExactnessTest()
      : weights_(OddConfig(), GetParam().type, /*seed=*/3), one_thread_(MakeMachine(1)) {}

  Machine MakeMachine(int threads) { return {GetParam().make(threads), weights_}; }

  std::vector<TrainingResult> Alone(const std::vector<TrainingJob>& jobs) {
    std::vector<TrainingResult> results;
    for (const TrainingJob& job : jobs) results.push_back(one_thread_.Alone(job));
    return results;
  }

  static void ExpectSame(const std::vector<TrainingResult>& got,
                         const std::vector<TrainingResult>& want) {
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].digest, want[i].digest) << "job " << i << " of " << got.size();
      EXPECT_EQ(got[i].metrics, want[i].metrics) << "job " << i << " of " << got.size();
    }
  }

  // The gradient of the first step: Adam's m is a tenth of it.
  std::vector<float> FirstGradient(TrainingJob job) {
    job.config.max_steps = 1;
    job.config.max_grad_norm = 0;
    const auto run = one_thread_.NewRun(job);
    while (run->active()) one_thread_.Pass({run.get()});
    return run->adapter().ReadM();
  }

  static double Norm(const std::vector<float>& x) {
    double sum = 0;
    for (const float value : x) sum += static_cast<double>(value) * value;
    return std::sqrt(sum);
  }
  static double Distance(const std::vector<float>& a, const std::vector<float>& b) {
    std::vector<float> difference(a.size());
    std::transform(a.begin(), a.end(), b.begin(), difference.begin(), std::minus<>());
    return Norm(difference);
  }

  const RandomModel weights_;
  Machine one_thread_;
};

INSTANTIATE_TEST_SUITE_P(Backends, TrainingExactnessTest, AllBackends(), BackendName);

TEST_P(TrainingExactnessTest, ACohortOfAnySizeGivesEachJobTheBytesOfItsSoloRun) {
  std::vector<TrainingJob> jobs = Jobs(32);
  // Sums over more tokens than one tile of them.
  jobs[6].config.per_device_train_batch_size = 64;
  jobs[6].config.micro_batch_tokens = 2000;
  jobs[6].config.max_steps = 2;
  for (size_t i = 8; i < jobs.size(); ++i) jobs[i].config.max_steps = 2;
  const std::vector<TrainingResult> alone = Alone(jobs);
  for (const auto& [size, threads] :
       std::vector<std::pair<int, int>>{{1, 3}, {2, 3}, {8, 2}, {32, 1}, {32, 3}}) {
    SCOPED_TRACE(testing::Message() << size << " jobs on " << threads << " threads");
    ExpectSame(MakeMachine(threads).Train({jobs.begin(), jobs.begin() + size}), alone);
  }
}

// A share of the test above that an emulated backend has time for.
TEST_P(TrainingExactnessTest, TwoStepsOfThreeJobsTogetherAreThoseAlone) {
  std::vector<TrainingJob> jobs = Jobs(4);
  jobs.erase(jobs.begin() + 1);
  for (size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].data = RandomData(200 + i, /*train=*/4, /*validation=*/i == 0, 3, 20);
    jobs[i].config.per_device_train_batch_size = 2;
    jobs[i].config.max_steps = 2;
    jobs[i].config.lora.lora_dropout = i == 1 ? 0.2 : 0;
  }
  ExpectSame(MakeMachine(2).Train(jobs), Alone(jobs));
}

// Three workers; in each pass one of them trains some of its jobs, and now and then a job is killed
// where it stands and begins again from its last checkpoint, if it has one, on any of the three.
TEST_P(TrainingExactnessTest, JoiningLeavingAndKillsAtAnyPassChangeNoByte) {
  const std::vector<TrainingJob> jobs = Jobs(6);
  const std::vector<TrainingResult> alone = Alone(jobs);
  std::vector<Machine> machines;
  for (const int threads : {1, 2, 3}) machines.push_back(MakeMachine(threads));
  struct Attempt {
    size_t machine = 0;
    std::unique_ptr<TrainingRun> run;
    std::string checkpoint;
  };
  std::vector<Attempt> attempts(jobs.size());
  for (size_t i = 0; i < jobs.size(); ++i) attempts[i].run = machines[0].NewRun(jobs[i]);
  std::vector<TrainingResult> results(jobs.size());
  std::mt19937_64 random(17);
  int kills = 0, kills_within_a_step = 0;
  const auto kill = [&](size_t i) {
    Attempt& attempt = attempts[i];
    ++kills;
    kills_within_a_step += !attempt.run->at_step_boundary();
    attempt.machine = random() % machines.size();
    attempt.run = machines[attempt.machine].NewRun(jobs[i]);
    if (attempt.checkpoint.empty()) return;
    ASSERT_TRUE(attempt.run->RestoreCheckpoint(attempt.checkpoint).ok());
    EXPECT_EQ(attempt.run->SaveCheckpoint(), attempt.checkpoint);
  };
  int passes = 0;
  while (std::any_of(attempts.begin(), attempts.end(),
                     [](const Attempt& attempt) { return attempt.run->active(); })) {
    ASSERT_LT(++passes, 5000);
    const size_t machine = random() % machines.size();
    std::vector<size_t> present;
    for (size_t i = 0; i < jobs.size(); ++i) {
      const bool takes_part = random() % 3 != 0;
      if (attempts[i].machine == machine && takes_part) present.push_back(i);
    }
    std::shuffle(present.begin(), present.end(), random);
    std::vector<TrainingRun*> runs;
    for (const size_t i : present) runs.push_back(attempts[i].run.get());
    for (const RunMetrics& step : machines[machine].Pass(runs)) {
      const size_t i = present[std::find(runs.begin(), runs.end(), step.run) - runs.begin()];
      results[i].metrics[step.metrics.step] = step.metrics;
      // Of a step that was done before, too.
      EXPECT_EQ(step.metrics, alone[i].metrics.at(step.metrics.step)) << "job " << i;
    }
    for (const size_t i : present) {
      const TrainingRun& run = *attempts[i].run;
      if (run.at_step_boundary() && random() % 3 == 0) {
        attempts[i].checkpoint = run.SaveCheckpoint();
      } else if (run.active() && random() % 6 == 0) {
        kill(i);
      }
    }
  }
  EXPECT_GT(kills_within_a_step, 0);
  EXPECT_GT(kills, kills_within_a_step);
  for (size_t i = 0; i < jobs.size(); ++i) results[i].digest = AdapterDigest(*attempts[i].run);
  ExpectSame(results, alone);
}

TEST_P(TrainingExactnessTest, EveryMicroBatchLimitGivesTheSameBytesInAnyCompanyAndTheSameGradient) {
  std::vector<TrainingJob> jobs = Jobs(4);
  TrainingJob& job = jobs[3];  // All linears, rank 8, dropout.
  job.data = RandomData(5, 20, 3, /*shortest=*/21, /*longest=*/40);
  job.config.per_device_train_batch_size = 12;
  job.config.max_steps = 3;
  job.config.micro_batch_tokens = 1000;
  const std::vector<float> whole = FirstGradient(job);
  Machine two_threads = MakeMachine(2);
  // One example, one or two, some, all.
  for (const int64_t limit : {41, 61, 130, 1000}) {
    SCOPED_TRACE(limit);
    job.config.micro_batch_tokens = limit;
    EXPECT_EQ(two_threads.Train(jobs)[3], one_thread_.Alone(job));
    // The rows that are added up have the same bits; the sums are rounded in other places.
    EXPECT_LE(Distance(FirstGradient(job), whole), 1e-6 * Norm(whole));
  }
}

TEST_P(TrainingExactnessTest, AccumulationEqualsTheBigBatchAndPackedEqualsUnpacked) {
  TrainingJob job = Jobs(1)[0];
  job.config.lora.rank = 5;
  job.data = RandomData(6, 40, 0, /*shortest=*/21, /*longest=*/40);
  job.config.per_device_train_batch_size = 32;
  job.config.micro_batch_tokens = 2000;
  job.config.max_steps = 3;
  TrainingJob accumulated = job;
  accumulated.config.per_device_train_batch_size = 1;
  accumulated.config.gradient_accumulation_steps = 32;
  // One micro-batch all the same: the words that say it differ.
  EXPECT_EQ(one_thread_.Alone(accumulated), one_thread_.Alone(job));
  TrainingJob unpacked = accumulated;
  unpacked.config.micro_batch_tokens = 41;
  EXPECT_EQ(one_thread_.Alone(unpacked).metrics.at(1).loss,
            one_thread_.Alone(job).metrics.at(1).loss);
  const std::vector<float> whole = FirstGradient(job);
  EXPECT_LE(Distance(FirstGradient(unpacked), whole), 1e-6 * Norm(whole));
  EXPECT_GT(Distance(FirstGradient(unpacked), whole), 0) << "nothing was cut";
}

// Two that diverge in the middle, one by a step of 0 / 0, one by steps that grow without bound; the
// first also evaluates, beside its neighbours, what it has become.
TEST_P(TrainingExactnessTest, RunsThatDivergeChangeNoByteOfTheirNeighbours) {
  std::vector<TrainingJob> jobs = Jobs(8);
  jobs[2].config.adam_epsilon = 1e-60;
  jobs[2].config.eval_steps = 1;
  TrainingConfig& wild = jobs[5].config;
  wild.learning_rate = 10;
  wild.adam_beta2 = 0;
  wild.adam_epsilon = 1e-38;
  wild.max_grad_norm = 0;
  wild.max_steps = 200;
  wild.lora = {.rank = 4, .lora_alpha = 1000};
  wild.lr_scheduler_type = LrSchedulerType::kConstant;
  Machine machine = MakeMachine(2);
  std::vector<std::unique_ptr<TrainingRun>> runs;
  std::vector<TrainingRun*> pointers;
  for (const TrainingJob& job : jobs) {
    runs.push_back(machine.NewRun(job));
    pointers.push_back(runs.back().get());
  }
  while (std::any_of(runs.begin(), runs.end(), [](const auto& run) { return run->active(); })) {
    machine.Pass(pointers);
  }
  EXPECT_THAT(std::string(runs[2]->status().message()),
              HasSubstr("training diverged at step 2: loss is nan"));
  EXPECT_TRUE(absl::IsInvalidArgument(runs[5]->status())) << runs[5]->status();
  EXPECT_GT(runs[5]->step(), 1);
  for (const size_t i : {0, 1, 3, 4, 6, 7}) {
    EXPECT_EQ(AdapterDigest(*runs[i]), one_thread_.Alone(jobs[i]).digest) << "job " << i;
  }
}

}  // namespace
}  // namespace deltaworks::trainer

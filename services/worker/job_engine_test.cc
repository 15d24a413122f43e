// What a worker promises of a job: the same adapter, byte for byte, however often the job was
// paused, killed, resumed or drained, and whoever trained beside it. On a tiny random model,
// through the real store client's fake. What cannot be trained: job_failures_test.cc.

#include "services/worker/job_engine.h"

#include <prometheus/histogram.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/manifest.h"
#include "services/worker/store_publisher.h"
#include "services/worker/testing/engine_harness.h"
#include "services/worker/testing/faulty_backend.h"
#include "services/worker/testing/tiny_world.h"
#include "trainer/backend/cpu/cpu_backend_testing.h"
#include "trainer/lora/lora_config.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"
#include "trainer/model/weights.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const AttemptKey kJ = KeyOf("j");

struct Undisturbed {
  TrainedResult result;
  std::map<int64_t, std::string> metrics;
};

const Undisturbed& Alone() {
  static const Undisturbed* alone = [] {
    EngineHarness worker;
    worker.engine().Start(kJ, TinyTask());
    worker.RunAll();
    CHECK(worker.results.contains(kJ.job)) << worker.failures[kJ.job].message();
    return new Undisturbed{worker.results[kJ.job], worker.metrics[kJ.job]};
  }();
  return *alone;
}

TEST(JobEngineTest, AJobTrainsToItsEndAndItsAdapterIsNamedByItsDigest) {
  const Undisturbed& alone = Alone();
  EXPECT_EQ(alone.result.step, kTinySteps);
  EXPECT_EQ(alone.result.artifact->Find(trainer::kAdapterModelFile)->entry.digest(),
            alone.result.adapter_digest);
  EXPECT_EQ(alone.metrics.size(), kTinySteps + 1);  // The evaluation before the first step counts.
  v1::MetricPoint last;
  ASSERT_TRUE(last.ParseFromString(alone.metrics.at(kTinySteps)));
  EXPECT_EQ(last.loss(), alone.result.loss);
  EXPECT_TRUE(last.has_eval_loss());
  v1::Manifest manifest;
  ASSERT_TRUE(manifest.ParseFromString(alone.result.artifact->manifest));
  EXPECT_EQ(manifest.kind(), v1::Manifest::ADAPTER);
  EXPECT_EQ(manifest.adapter_digest(), alone.result.adapter_digest);
  EXPECT_THAT(manifest.probe_digest(), HasSubstr("sha256:"));
}

TEST(JobEngineTest, AParkedAndResumedJobEndsWithTheSameBytes) {
  EngineHarness worker;
  worker.engine().Start(kJ, TinyTask());
  for (int i = 0; i < 5; ++i) worker.RunOnce();
  worker.engine().Park(kJ);
  worker.RunAll();  // Ends: it parked at a step's end.
  const int64_t parked_at = worker.steps[kJ.job];
  EXPECT_LT(parked_at, kTinySteps);
  EXPECT_FALSE(worker.RunOnce());
  EXPECT_EQ(worker.steps[kJ.job], parked_at);
  worker.engine().Resume(kJ);
  worker.RunAll();
  EXPECT_EQ(worker.results[kJ.job].artifact->manifest_digest,
            Alone().result.artifact->manifest_digest);
}

TEST(JobEngineTest, AJobKilledAtRandomStepsAndResumedEndsWithTheSameBytes) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    v1::TrainTask task = TinyTask();
    std::map<int64_t, std::string> metrics;
    for (int life = 0;; ++life) {
      ASSERT_LT(life, 100);
      EngineHarness worker(/*threads=*/1 + static_cast<int>(random() % 2));
      worker.engine().Start(kJ, task);
      const int passes_to_live = 1 + static_cast<int>(random() % 12);
      for (int pass = 0; pass < passes_to_live; ++pass) {
        if (!worker.RunOnce()) break;
        if (random() % 3 == 0) worker.engine().TakeCheckpoint(kJ);
      }
      for (const auto& [step, point] : worker.metrics[kJ.job]) {
        const auto [before, is_new] = metrics.emplace(step, point);
        EXPECT_EQ(before->second, point) << "step " << step << " was repeated with other numbers";
      }
      if (worker.results.contains(kJ.job)) {
        EXPECT_EQ(worker.results[kJ.job].artifact->manifest, Alone().result.artifact->manifest);
        EXPECT_EQ(worker.results[kJ.job].loss, Alone().result.loss);
        break;
      }
      if (worker.checkpoints.contains(kJ.job))
        task = StartingFrom(TinyTask(), *worker.checkpoints[kJ.job]);
    }
    EXPECT_EQ(metrics, Alone().metrics);
  }
}

TEST(JobEngineTest, ADrainedJobLeavesAtAStepsEndAndGoesOnElsewhereWithTheSameBytes) {
  EngineHarness first;
  first.engine().Start(kJ, TinyTask());
  for (int i = 0; i < 7; ++i) first.RunOnce();
  first.engine().Leave(kJ);
  first.RunAll();
  ASSERT_EQ(first.left.size(), 1u);
  ASSERT_TRUE(first.checkpoints.contains(kJ.job));
  const Artifact& checkpoint = *first.checkpoints[kJ.job];
  EXPECT_GE(checkpoint.step, first.steps[kJ.job]);

  EngineHarness second(/*threads=*/2);
  second.engine().Start(kJ, StartingFrom(TinyTask(), checkpoint));
  second.RunAll();
  EXPECT_EQ(second.started_at[0], checkpoint.step);
  EXPECT_EQ(second.results[kJ.job].artifact->manifest, Alone().result.artifact->manifest);
}

TEST(JobEngineTest, AJobKilledAfterItsLastCheckpointStillHasItsResult) {
  EngineHarness worker;
  worker.engine().Start(kJ, StartingFrom(TinyTask(), *Alone().result.checkpoint));
  worker.RunAll();
  ASSERT_TRUE(worker.results.contains(kJ.job)) << worker.failures[kJ.job].message();
  EXPECT_EQ(worker.results[kJ.job].artifact->manifest, Alone().result.artifact->manifest);
  EXPECT_EQ(worker.results[kJ.job].loss, Alone().result.loss);
  EXPECT_EQ(worker.results[kJ.job].checkpoint, nullptr);
}

TEST(JobEngineTest, NeighboursThatJoinAndLeaveChangeNothing) {
  EngineHarness worker;
  const AttemptKey other = KeyOf("other"), third = KeyOf("third");
  worker.engine().Start(other, TinyTask(7));
  worker.RunOnce();
  worker.engine().Start(kJ, TinyTask());
  for (int i = 0; i < 4; ++i) worker.RunOnce();
  worker.engine().Start(third, TinyTask(8));
  worker.engine().Stop(other);
  worker.RunAll();
  EXPECT_EQ(worker.results[kJ.job].artifact->manifest, Alone().result.artifact->manifest);
  EXPECT_TRUE(worker.results.contains(third.job));
  EXPECT_FALSE(worker.results.contains(other.job));
}

TEST(JobEngineTest, AJobThatJoinsIsInTheNextPassAndItsNeighbourMissesNone) {
  EngineHarness worker;
  const AttemptKey other = KeyOf("other");
  worker.engine().Start(other, TinyTask(7));
  for (int i = 0; i < 3; ++i) worker.RunOnce();
  EXPECT_EQ(TheWorld().metrics.cohort_runs.Value(), 1);
  worker.engine().Start(kJ, TinyTask());
  worker.RunOnce();
  EXPECT_EQ(TheWorld().metrics.cohort_runs.Value(), 2);
  EXPECT_EQ(worker.metrics[kJ.job].size(), 1u) << "the evaluation before its first step";
}

TEST(JobEngineTest, AJobThatLeavesGivesBackWhatPassesNeededAndTheOthersTakeTheirs) {
  const trainer::Backend* device = nullptr;
  EngineHarness worker([&](trainer::DType type) {
    auto backend = trainer::NewCpuBackend({.compute_type = type});
    if (backend.ok()) device = backend->get();
    return backend;
  });
  const AttemptKey other = KeyOf("other");
  worker.engine().Start(other, TinyTask(7));
  worker.engine().Start(kJ, TinyTask());
  worker.RunOnce();
  EXPECT_GT(trainer::ScratchOf(*device).held, 0);
  worker.engine().Stop(other);
  EXPECT_EQ(trainer::ScratchOf(*device).held, 0);
  worker.RunAll();
  EXPECT_EQ(worker.results[kJ.job].artifact->manifest, Alone().result.artifact->manifest);
}

TEST(JobEngineTest, StopTakesEffectBeforeTheNextPass) {
  EngineHarness worker;
  worker.engine().Start(kJ, TinyTask());
  for (int i = 0; i < 3; ++i) worker.RunOnce();
  worker.engine().Stop(kJ);
  ASSERT_EQ(worker.left.size(), 1u);
  EXPECT_FALSE(worker.RunOnce());
  EXPECT_TRUE(worker.checkpoints.empty());
  EXPECT_TRUE(worker.results.empty());
}

TEST(JobEngineTest, AnAdapterReadBackFromTheStoreAnswersAsTheOneInMemory) {
  EngineHarness worker;
  worker.engine().Start(kJ, TinyTask());
  worker.RunAll();
  const Artifact& artifact = *worker.results[kJ.job].artifact;
  ASSERT_TRUE(PublishArtifact(TheWorld().store, kJ.job, artifact).ok());
  EXPECT_TRUE(TheWorld().store.Pins().contains({kJ.job, artifact.manifest_digest}));
  const auto bytes = ReadBackAdapter(TheWorld().store, kJ.job, artifact);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  worker.engine().Verify(kJ, bytes->adapter_model, bytes->adapter_config);
  ASSERT_EQ(worker.verified.size(), 1u);
  EXPECT_TRUE(worker.verified[0].ok()) << worker.verified[0];

  // One bit of one weight is enough to be seen.
  std::string damaged = bytes->adapter_model;
  damaged[damaged.size() - 2] ^= 1;
  worker.engine().Verify(kJ, damaged, bytes->adapter_config);
  EXPECT_TRUE(absl::IsDataLoss(worker.verified[1]));
  worker.engine().Verify(kJ, "rubbish", bytes->adapter_config);
  EXPECT_TRUE(absl::IsDataLoss(worker.verified[2]));
}

TEST(JobEngineTest, CheckpointsComeEverySaveStepsAndThatOfTheLastStepWithTheResultOnly) {
  EngineHarness worker;
  v1::TrainTask task = TinyTask();
  task.mutable_spec()->mutable_arguments()->set_save_steps(4);
  worker.engine().Start(kJ, task);
  std::vector<int64_t> at;
  while (worker.RunOnce()) {
    if (!worker.checkpoints.contains(kJ.job)) continue;
    at.push_back(worker.checkpoints[kJ.job]->step);
    worker.checkpoints.clear();
  }
  EXPECT_THAT(at, ElementsAre(4, 8));
  ASSERT_NE(worker.results[kJ.job].checkpoint, nullptr);
  EXPECT_EQ(worker.results[kJ.job].checkpoint->step, kTinySteps);
}

TEST(JobEngineTest, ACheckpointOfTheLastStepTakenWhileItsEvaluationRanIsNotRepeated) {
  EngineHarness worker;
  worker.engine().Start(kJ, TinyTask());
  bool asked = false;
  while (worker.RunOnce()) {
    // The last points come in with the evaluation after the last step.
    if (asked || worker.steps[kJ.job] < kTinySteps - 1) continue;
    worker.engine().TakeCheckpoint(kJ);
    asked = worker.checkpoints.contains(kJ.job) && worker.checkpoints[kJ.job]->step == kTinySteps;
  }
  ASSERT_TRUE(asked);
  EXPECT_EQ(worker.results[kJ.job].checkpoint, nullptr);
  EngineHarness second;
  second.engine().Start(kJ, StartingFrom(TinyTask(), *worker.checkpoints[kJ.job]));
  second.RunAll();
  EXPECT_EQ(second.results[kJ.job].artifact->manifest, Alone().result.artifact->manifest);
}

// What the registry asks of a checkpoint that is promoted to a version.
TEST(JobEngineTest, ACheckpointHasTheAdapterAsAPeftFolderBoundToItsBase) {
  const Artifact& checkpoint = *Alone().result.checkpoint;
  const auto manifest = ParseManifest(checkpoint.manifest, "checkpoint");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->kind(), v1::Manifest::CHECKPOINT);
  EXPECT_EQ(manifest->step(), kTinySteps);
  EXPECT_EQ(manifest->base_form(), v1::F32);
  EXPECT_EQ(manifest->dataset_manifest_digest(), TheWorld().train_digest);
  ASSERT_NE(FindFile(*manifest, trainer::kAdapterModelFile), nullptr);
  ASSERT_NE(FindFile(*manifest, trainer::kAdapterConfigFile), nullptr);
  EXPECT_EQ(FindFile(*manifest, trainer::kAdapterModelFile)->digest(), manifest->adapter_digest());
  // At the last step it is the result's very adapter.
  EXPECT_EQ(manifest->adapter_digest(), Alone().result.adapter_digest);
  v1::Manifest result;
  ASSERT_TRUE(result.ParseFromString(Alone().result.artifact->manifest));
  EXPECT_EQ(manifest->base_source_digest(), result.base_source_digest());
  EXPECT_EQ(checkpoint.Find(trainer::kAdapterConfigFile)->bytes,
            Alone().result.artifact->Find(trainer::kAdapterConfigFile)->bytes);
}

// The store gives a caller what its reference keeps, and a job keeps its checkpoints and result
// only.
TEST(JobEngineTest, BaseAndDataAreReadThroughTheirOwnResourcesAndACheckpointThroughItsJob) {
  TinyWorld& world = TheWorld();
  BaseCache bases(world.folder + "/references", world.store, world.registry);
  const v1::TrainTask task = StartingFrom(TinyTask(), *Alone().result.checkpoint);
  const Preparation preparation =
      PrepareJob(kJ.job, task, bases, world.store, [] { return false; });
  ASSERT_NE(preparation.job, nullptr) << preparation.failure.message();
  const auto reads = world.store.Reads();
  EXPECT_TRUE(reads.contains({"tenants/t/baseModels/tiny", world.base_digest}));
  EXPECT_TRUE(reads.contains({"tenants/t/datasets/train", world.train_digest}));
  EXPECT_TRUE(reads.contains({"tenants/t/datasets/validation", world.validation_digest}));
  EXPECT_TRUE(reads.contains({kJ.job, task.start_checkpoint().manifest_digest()}));
  EXPECT_FALSE(reads.contains({kJ.job, world.base_digest}));
  EXPECT_FALSE(reads.contains({kJ.job, world.train_digest}));
}

TEST(JobEngineTest, SpeedIsThatOfStepsWithoutTheEvaluationsBetweenThem) {
  EngineHarness worker;  // A pass takes 10 ms of its clock.
  worker.engine().Start(kJ, TinyTask());
  worker.RunAll();
  int64_t tokens = 0;
  for (const auto& [step, bytes] : worker.metrics[kJ.job]) {
    v1::MetricPoint point;
    ASSERT_TRUE(point.ParseFromString(bytes));
    if (step > 0) {
      const double seconds =
          static_cast<double>(point.tokens() - tokens) / worker.speeds[kJ.job][step];
      // 8 examples of less than 64 tokens, in micro-batches of 256.
      EXPECT_LE(seconds, 0.0301) << "step " << step;
      EXPECT_GT(seconds, 0.0099) << "step " << step;
    }
    tokens = point.tokens();
  }
}

TEST(JobEngineTest, EachPassIsMeasured) {
  const auto expect_passes = [](int64_t count) {
    EXPECT_THAT(TheWorld().registry.Text(),
                HasSubstr(absl::StrCat("deltaworks_worker_pass_seconds_count ", count, "\n")));
  };
  EngineHarness worker;
  worker.engine().Start(kJ, TinyTask());
  const auto before =
      static_cast<int64_t>(TheWorld().metrics.pass_seconds.Collect().histogram.sample_count);
  worker.RunOnce();
  worker.RunOnce();
  expect_passes(before + 2);
}

// A worker whose passes take time: 7 ms each time that the device is waited for.
struct TimedWorker {
  explicit TimedWorker() {
    device.in_synchronize = [this] { worker.clock().Advance(absl::Milliseconds(7)); };
  }
  // A pass of jobs none of which ends; how long it took.
  absl::Duration Pass() {
    const absl::Duration begin = worker.clock().Monotonic();
    EXPECT_TRUE(worker.RunOnce());
    return worker.clock().Monotonic() - begin - absl::Milliseconds(10);  // The harness's own step.
  }

  DeviceFaults device;
  EngineHarness worker{
      [this](trainer::DType type) -> absl::StatusOr<std::unique_ptr<trainer::Backend>> {
        return std::make_unique<FaultyBackend>(*trainer::NewCpuBackend({.compute_type = type}),
                                               device);
      }};
};

// Every pass is a step.
v1::TrainTask StepByStep(int32_t examples, int32_t rank) {
  v1::TrainTask task = TinyTask();
  task.mutable_spec()->clear_validation_dataset();
  task.mutable_facts()->clear_validation_manifest_digest();
  task.mutable_spec()->mutable_lora()->set_rank(rank);
  task.mutable_spec()->mutable_arguments()->set_per_device_train_batch_size(examples);
  task.mutable_spec()->mutable_arguments()->set_gradient_accumulation_steps(1);
  return task;
}

int64_t TokensAt(const EngineHarness& worker, const std::string& job, int64_t step) {
  v1::MetricPoint point;
  CHECK(point.ParseFromString(worker.metrics.at(job).at(step)));
  return point.tokens();
}

TEST(JobEngineTest, OfEachPassAJobHasItsShareByTokensAndWeightsAndAllOfItIsShared) {
  const auto base = *trainer::ModelWeights::Open(TheWorld().folder + "/tiny");
  const auto flops_by_token = [&](int64_t rank) {
    const auto targets =
        *trainer::ResolveTargets({.rank = rank}, trainer::LlamaModules(base->config()));
    return static_cast<double>(4 * base->manifest().parameters +
                               6 * trainer::TrainableParameters(targets));
  };
  TimedWorker timed;
  EngineHarness& worker = timed.worker;
  const AttemptKey other = KeyOf("other");
  worker.engine().Start(kJ, StepByStep(/*examples=*/1, /*rank=*/4));
  worker.engine().Start(other, StepByStep(/*examples=*/4, /*rank=*/64));
  worker.RunOnce();  // Loads the base, which counts for nobody.
  const absl::Duration first = worker.device_times[kJ.job] + worker.device_times[other.job];
  EXPECT_GT(first, absl::ZeroDuration());
  absl::Duration before = worker.device_times[kJ.job];
  absl::Duration other_before = worker.device_times[other.job];
  for (int64_t step = 2; step <= 6; ++step) {
    const absl::Duration took = timed.Pass();
    EXPECT_EQ(took, first);
    const absl::Duration own = worker.device_times[kJ.job] - before;
    const absl::Duration others = worker.device_times[other.job] - other_before;
    EXPECT_EQ(own + others, took);
    const auto tokens = [&](const AttemptKey& key) {
      return static_cast<double>(TokensAt(worker, key.job, step) -
                                 TokensAt(worker, key.job, step - 1));
    };
    const double own_flops = tokens(kJ) * flops_by_token(4);
    const double other_flops = tokens(other) * flops_by_token(64);
    // Rounded to nanoseconds.
    EXPECT_NEAR(absl::ToDoubleNanoseconds(own),
                absl::ToDoubleNanoseconds(took) * own_flops / (own_flops + other_flops), 1);
    before += own;
    other_before += others;
  }
}

TEST(JobEngineTest, AParkedJobHasNoDeviceTimeAndOneThatStartsAgainBeginsAtZero) {
  TimedWorker timed;
  EngineHarness& worker = timed.worker;
  const AttemptKey other = KeyOf("other");
  worker.engine().Start(kJ, StepByStep(1, 4));
  worker.engine().Start(other, StepByStep(4, 4));
  worker.RunOnce();
  worker.engine().Park(other);
  const absl::Duration parked = worker.device_times[other.job];
  const absl::Duration before = worker.device_times[kJ.job];
  const absl::Duration took = timed.Pass();
  EXPECT_EQ(worker.device_times[kJ.job] - before, took);
  EXPECT_EQ(worker.device_times[other.job], parked);

  worker.engine().Stop(kJ);
  worker.engine().Stop(other);
  worker.engine().Start(KeyOf("j", /*epoch=*/2), StepByStep(1, 4));
  worker.RunOnce();
  EXPECT_EQ(worker.device_times[kJ.job], took) << "one pass";
}

TEST(JobEngineTest, PassesAreMeasuredByBaseButForItsFirstAndThoseThatEvaluate) {
  TimedWorker timed;
  EngineHarness& worker = timed.worker;
  worker.engine().Start(kJ, StepByStep(1, 4));
  worker.RunOnce();
  EXPECT_TRUE(worker.measures.empty()) << "it read the weights";
  const absl::Duration took = timed.Pass();
  ASSERT_EQ(worker.measures.size(), 1u);
  EXPECT_EQ(worker.measures[0].base_manifest_digest, TheWorld().base_digest);
  EXPECT_EQ(worker.measures[0].compute_type, v1::F32);
  EXPECT_EQ(worker.measures[0].tokens, TokensAt(worker, kJ.job, 2) - TokensAt(worker, kJ.job, 1));
  EXPECT_EQ(worker.measures[0].duration, took);

  worker.engine().Stop(kJ);
  worker.measures.clear();
  worker.engine().Start(kJ, TinyTask());  // Evaluates first, and at four steps.
  worker.RunAll();
  int64_t tokens = 0;
  for (const PassMeasure& pass : worker.measures) tokens += pass.tokens;
  EXPECT_EQ(tokens, TokensAt(worker, kJ.job, kTinySteps)) << "all that it trained, and no more";
}

TEST(JobEngineTest, ARunEvaluatesBeforeItsFirstStepEveryEvalStepsAndAfterItsLast) {
  std::vector<int64_t> evaluated;
  for (const auto& [step, bytes] : Alone().metrics) {
    v1::MetricPoint point;
    ASSERT_TRUE(point.ParseFromString(bytes));
    if (point.has_eval_loss()) evaluated.push_back(step);
  }
  EXPECT_THAT(evaluated, ElementsAre(0, 5, 10, kTinySteps));
}

}  // namespace
}  // namespace deltaworks::services

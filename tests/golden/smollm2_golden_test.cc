// The real model, SmolLM2-135M-Instruct, on the cpu backend against transformers and PEFT: logits,
// 50 training steps, generation. The stored models are folders named by the environment variables
// DELTAWORKS_SMOLLM2_F32 and DELTAWORKS_SMOLLM2_BF16 (tests/run sets them).

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/golden/golden_files.h"
#include "tests/golden/merge_difference.h"
#include "tests/golden/training_golden.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/generate/generator.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/weights.h"
#include "trainer/train/cohort.h"

namespace deltaworks::trainer {
namespace {

// The model of one form on the cpu backend of that compute type.
struct RealModel {
  explicit RealModel(DType type) {
    const char* folder =
        std::getenv(type == DType::kF32 ? "DELTAWORKS_SMOLLM2_F32" : "DELTAWORKS_SMOLLM2_BF16");
    CHECK(folder != nullptr) << "set DELTAWORKS_SMOLLM2_F32 and DELTAWORKS_SMOLLM2_BF16";
    weights = *ModelWeights::Open(folder);
    const int threads = static_cast<int>(std::thread::hardware_concurrency());
    backend = *NewCpuBackend({.compute_type = type, .threads = threads});
    auto created =
        Llama::Create(*backend, weights->config(), weights->tensors(), {.positions_max = 256});
    CHECK(created.ok()) << created.status();
    model = std::move(*created);
  }
  std::unique_ptr<ModelWeights> weights;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Llama> model;
};

TEST(SmolLm2GoldenTest, LogitsInF32AreThoseOfTransformers) {
  const RealModel real(DType::kF32);
  Workspace workspace(*real.backend, real.model->config());
  const auto tensors = GoldenTensors("smollm2_logits.safetensors");
  const Json golden = GoldenJson("smollm2_logits.json");
  float largest = 0;
  for (size_t i = 0; i < golden["prompts"].size(); ++i) {
    const Json& prompt = golden["prompts"][i];
    const std::vector<int32_t> ids = GoldenIds(prompt["ids"]);
    PackedBatch batch;
    batch.AppendDocument(ids, std::vector<int32_t>(ids.size(), -1), 1);
    const std::vector<int32_t> positions = GoldenIds(prompt["positions"]);
    const auto logits = real.model->Logits(batch, positions, workspace);
    ASSERT_TRUE(logits.ok()) << logits.status();
    const float* sixteenth =
        tensors->contents().Find("every_16th_" + std::to_string(i))->as<const float>();
    const float* top = tensors->contents().Find("top_" + std::to_string(i))->as<const float>();
    const int64_t vocab = real.model->config().vocab_size;
    for (size_t p = 0; p < positions.size(); ++p) {
      for (int64_t v = 0; v < vocab; v += 16) {
        largest = std::max(
            largest, std::abs((*logits)[p * vocab + v] - sixteenth[p * (vocab / 16) + v / 16]));
      }
      const std::vector<int32_t> top_ids = GoldenIds(prompt["top_ids"][p]);
      for (size_t j = 0; j < top_ids.size(); ++j) {
        largest = std::max(
            largest, std::abs((*logits)[p * vocab + top_ids[j]] - top[p * top_ids.size() + j]));
      }
    }
  }
  std::cout << "largest difference of a logit: " << largest << "\n";
  EXPECT_LT(largest, 1e-3);
}

TEST(SmolLm2GoldenTest, MergedLogitsAreTheUnmergedOnesUpToTheRoundingOfMergedWeights) {
  const Json golden = GoldenJson("smollm2_logits.json");
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const RealModel real(type);
    const auto peft = *ReadPeftFolder(GoldenPath("adapters/smollm2_final"), real.model->modules());
    for (const Json& prompt : golden["prompts"]) {
      const MergeDifference difference =
          MeasureMergeDifference(*real.backend, real.model->config(), real.weights->tensors(), peft,
                                 GoldenIds(prompt["ids"]), GoldenIds(prompt["positions"]));
      EXPECT_LT(difference.largest, difference.bound) << NameOf(type);
      EXPECT_LT(2 * difference.bound, difference.adapter) << "the bound would hide the adapter";
      std::cout << NameOf(type) << ": a logit differs by at most " << difference.largest
                << ", bound " << difference.bound << "; the adapter changes it by up to "
                << difference.adapter << "\n";
    }
  }
}

std::vector<StepMetrics> Train(const RealModel& real, const GoldenTraining& golden,
                               const Json& setting, std::unique_ptr<TrainingRun>* run,
                               std::vector<float>* start) {
  *start = GoldenStart(setting, *ResolveTargets(golden.config.lora, real.model->modules()));
  return RunToEnd(*real.model, golden, *start, run);
}

TEST(SmolLm2GoldenTest, FiftyStepsInF32AreThoseOfPeft) {
  const RealModel real(DType::kF32);
  const Json training = GoldenJson("train_smollm2.json");
  const GoldenTraining golden(training, training);
  std::unique_ptr<TrainingRun> run;
  std::vector<float> start;
  const auto metrics = Train(real, golden, training["setting"], &run, &start);
  ASSERT_EQ(metrics.size(), 50u);
  double worst = 0;
  for (size_t i = 0; i < metrics.size(); ++i) {
    worst = std::max(worst, std::abs(metrics[i].loss / golden.losses[i] - 1));
  }
  EXPECT_LT(worst, 1e-5);
  const auto want = *ReadPeftFolder(GoldenPath("adapters/smollm2_final"), real.model->modules());
  const AdapterDistance distance = Distance(run->adapter().ReadParameters(), want.values, start);
  std::cout << "losses differ by at most " << worst << ", adapter by " << distance.relative_norm
            << " of its change, share of elements off by more than 1e-3: "
            << distance.share_above_1e3 << "\n";
  EXPECT_LT(distance.relative_norm, 1e-3);
  EXPECT_LE(distance.share_above_1e3, 1e-5);
}

// The mean cross entropy of a golden step in evaluation, under `adapter`.
double StepLoss(const RealModel& real, const Adapter& adapter, const Json& step,
                Workspace& workspace) {
  PackedBatch batch;
  batch.BeginSegment(&adapter, {});
  for (const Json& example : step) {
    const std::vector<int32_t> ids = GoldenIds(example["ids"]);
    std::vector<int32_t> next = GoldenIds(example["labels"]);
    next.erase(next.begin());
    next.push_back(-1);
    batch.AppendDocument(ids, next, 1);
  }
  batch.EndSegment();
  const auto losses = real.model->Losses(batch, workspace);
  CHECK(losses.ok()) << losses.status();
  double sum = 0;
  for (const double loss : *losses) sum += loss;
  return sum / static_cast<double>(losses->size());
}

struct Spread {
  double mean = 0;
  double largest = 0;
};
Spread SpreadOf(const std::vector<double>& differences) {
  Spread spread;
  for (const double difference : differences) {
    spread.mean += difference / static_cast<double>(differences.size());
    spread.largest = std::max(spread.largest, std::abs(difference));
  }
  return spread;
}

// Two comparisons. At the adapters of the f32 training, step by step: what bf16 does to a loss. And
// of two trainings: their paths drift apart, and step 42 of this data answers the smallest push
// (rounding the first A alone moves it most of all 50), so there only the mean is bounded.
TEST(SmolLm2GoldenTest, FiftyStepsInBf16StayNearF32) {
  const Json training = GoldenJson("train_smollm2.json");
  const GoldenTraining golden(training, training);
  const RealModel f32(DType::kF32), bf16(DType::kBF16);
  const auto targets = *ResolveTargets(golden.config.lora, f32.model->modules());
  const std::vector<float> start = GoldenStart(training["setting"], targets);
  const auto run = *TrainingRun::Create(*f32.model, golden.config, golden.data, {});
  ASSERT_TRUE(run->StartFrom(start).ok());
  const auto rounded = *Adapter::Create(*bf16.backend, targets, /*trainable=*/false);
  Workspace workspace(*bf16.backend, bf16.model->config());
  Cohort cohort(*f32.model);
  std::vector<double> f32_losses, at_same_adapter;
  while (run->active()) {
    rounded->WriteParameters(run->adapter().ReadParameters());
    const Json& step = training["steps"][f32_losses.size()];
    const double loss = StepLoss(bf16, *rounded, step, workspace);
    const PassResult pass = cohort.Pass({run.get()});
    ASSERT_TRUE(pass.status.ok()) << pass.status;
    f32_losses.push_back(pass.metrics.at(0).metrics.loss);
    at_same_adapter.push_back(loss - f32_losses.back());
  }
  std::unique_ptr<TrainingRun> bf16_run;
  const std::vector<StepMetrics> bf16_metrics = RunToEnd(*bf16.model, golden, start, &bf16_run);
  const std::vector<double> autocast = training["loss_bf16_autocast"];
  std::vector<double> trained, peft;
  for (size_t i = 0; i < 50; ++i) {
    trained.push_back(bf16_metrics[i].loss - f32_losses[i]);
    peft.push_back(autocast[i] - golden.losses[i]);
  }
  const Spread same = SpreadOf(at_same_adapter), own = SpreadOf(trained), theirs = SpreadOf(peft);
  std::cout << "bf16 - f32, same adapter: mean " << same.mean << ", largest " << same.largest
            << "; own training: mean " << own.mean << ", largest " << own.largest
            << "; PEFT's autocast training: mean " << theirs.mean << ", largest " << theirs.largest
            << "\n";
  EXPECT_LT(std::abs(same.mean), 2e-3);
  EXPECT_LT(same.largest, 1.5e-2);
  EXPECT_LT(std::abs(own.mean), 2e-3);
}

// Trained in f32 and in bf16 from the same start: the differences are those of whole trainings.
TEST(SmolLm2Batch8GoldenTest, FiftyStepsInF32AreThoseOfPeftAndInBf16StayNear) {
  const Json training = GoldenJson("train_smollm2_batch8.json");
  const GoldenTraining golden(training, training);
  std::vector<std::vector<double>> losses;
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const RealModel real(type);
    std::unique_ptr<TrainingRun> run;
    std::vector<float> start;
    losses.emplace_back();
    for (const StepMetrics& step : Train(real, golden, training["setting"], &run, &start)) {
      losses.back().push_back(step.loss);
    }
    ASSERT_EQ(losses.back().size(), 50u);
  }
  const std::vector<double> autocast = training["loss_bf16_autocast"];
  double worst = 0;
  std::vector<double> ours, peft;
  for (size_t i = 0; i < 50; ++i) {
    worst = std::max(worst, std::abs(losses[0][i] / golden.losses[i] - 1));
    ours.push_back(losses[1][i] - losses[0][i]);
    peft.push_back(autocast[i] - golden.losses[i]);
  }
  const Spread own = SpreadOf(ours), theirs = SpreadOf(peft);
  std::cout << "f32 losses differ by at most " << worst << "; bf16 - f32: mean " << own.mean
            << ", largest " << own.largest << "; PEFT's autocast - f32: mean " << theirs.mean
            << ", largest " << theirs.largest << "\n";
  EXPECT_LT(worst, 1e-5);
  EXPECT_LT(std::abs(own.mean), 2e-3);
  EXPECT_LT(own.largest, 1.5e-2);
}

TEST(SmolLm2GoldenTest, GreedyAnswersAreThoseOfTransformers) {
  const RealModel real(DType::kF32);
  int compared = 0;
  const Json file = GoldenJson("generation.json");
  for (const Json& golden : file["generations"]) {
    if (golden["base"] != "smollm2") continue;
    std::unique_ptr<Adapter> adapter;
    if (const std::string name = golden["adapter"]; !name.empty()) {
      const auto peft = *ReadPeftFolder(GoldenPath("adapters/" + name), real.model->modules());
      adapter = *Adapter::Create(*real.backend, peft.targets, /*trainable=*/false);
      adapter->WriteParameters(peft.values);
    }
    const std::vector<int32_t> want = GoldenIds(golden["tokens"]);
    const auto generator = *Generator::Create(*real.model, 1);
    ASSERT_TRUE(generator
                    ->Add({.prompt = GoldenIds(golden["prompt"]),
                           .adapter = adapter.get(),
                           .max_new_tokens = static_cast<int64_t>(want.size())})
                    .ok());
    std::vector<int32_t> got;
    while (generator->active() > 0) {
      const auto step = generator->Step();
      ASSERT_TRUE(step.ok()) << step.status();
      for (const GeneratedToken& token : *step) got.push_back(token.token);
    }
    EXPECT_EQ(got, want) << "adapter: " << golden["adapter"];
    ++compared;
  }
  EXPECT_GE(compared, 2);
}

}  // namespace
}  // namespace deltaworks::trainer

// 50 steps of training on the small golden model give PEFT's losses, gradient norms, learning rates
// and adapter. The bounds are those of README.md; PEFT's two attention paths differ from each other
// by 2.4e-7 in the losses and 2.2e-6 in the adapter.

#include "tests/golden/training_golden.h"

#include <cmath>
#include <iostream>
#include <memory>
#include <string>
#include <tuple>

#include "gtest/gtest.h"
#include "tests/golden/golden_files.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/backend/reference/reference_backend.h"
#include "trainer/lora/peft_format.h"

namespace deltaworks::trainer {
namespace {

std::unique_ptr<Backend> MakeBackend(const std::string& name) {
  if (name == "reference") return NewReferenceBackend(DType::kF32);
  CHECK_EQ(name, "cpu");
  return *NewCpuBackend({.compute_type = DType::kF32, .threads = 2});
}

class TrainingGoldenTest : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(TrainingGoldenTest, FiftyStepsAreThoseOfPeft) {
  const auto backend = MakeBackend(std::get<0>(GetParam()));
  const std::string name = std::get<1>(GetParam());
  const GoldenModel files("tiny");
  const auto model =
      *Llama::Create(*backend, files.config, files.file->tensors(), {.positions_max = 64});
  const Json training = GoldenJson("train_" + name + ".json");
  const GoldenTraining golden(training, GoldenJson("train_data.json"));
  const auto initial =
      *ReadPeftFolder(GoldenPath("adapters/" + name + "_initial"), model->modules());
  EXPECT_EQ(GoldenStart(training["setting"], initial.targets), initial.values);

  std::unique_ptr<TrainingRun> run;
  const std::vector<StepMetrics> metrics = RunToEnd(*model, golden, initial.values, &run);

  ASSERT_EQ(metrics.size(), 50u);
  for (size_t i = 0; i < metrics.size(); ++i) {
    EXPECT_NEAR(metrics[i].loss, golden.losses[i], 1e-5 * golden.losses[i]) << "step " << i + 1;
    EXPECT_NEAR(metrics[i].grad_norm, golden.grad_norms[i], 1e-5 * golden.grad_norms[i])
        << "step " << i + 1;
    EXPECT_NEAR(metrics[i].learning_rate, golden.learning_rates[i], 1e-12) << "step " << i + 1;
  }
  const auto want = *ReadPeftFolder(GoldenPath("adapters/" + name + "_final"), model->modules());
  const AdapterDistance distance =
      Distance(run->adapter().ReadParameters(), want.values, initial.values);
  EXPECT_LT(distance.relative_norm, 1e-3);
  EXPECT_LE(distance.share_above_1e3, 1e-5);
  std::cout << name << ": adapter differs by " << distance.relative_norm
            << " of its change, share of elements off by more than 1e-3: "
            << distance.share_above_1e3 << "\n";
}

INSTANTIATE_TEST_SUITE_P(All, TrainingGoldenTest,
                         ::testing::Combine(::testing::Values("reference", "cpu"),
                                            ::testing::Values("all_linear", "attention_rslora")));

}  // namespace
}  // namespace deltaworks::trainer

// The cpu backend's bound of its own scratch: passes of every kind of job take no byte more than
// was reserved for them. Each shape makes another part of the bound the largest.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/backend/cpu/cpu_backend_testing.h"
#include "trainer/generate/generator.h"
#include "trainer/train/training_case.h"

namespace deltaworks::trainer {
namespace {

struct Shape {
  std::string name;
  ModelConfig model;
  int shortest, longest;  // Tokens of an example.
  int64_t rank;
  int64_t micro_batch_tokens = 2'048;
};

std::vector<Shape> Shapes() {
  std::vector<Shape> shapes;
  const auto add = [&](const std::string& name, int shortest, int longest, int64_t rank) {
    shapes.push_back({name, SmallConfig(), shortest, longest, rank});
    ModelConfig& model = shapes.back().model;
    model.num_hidden_layers = 1;
    model.max_position_embeddings = 512;
    return &model;
  };
  add("tiny_documents", 2, 3, 2);
  ModelConfig* model = add("attention", 300, 400, 2);
  model->head_dim = 40;
  model->num_attention_heads = 12;
  model->num_key_value_heads = 4;
  model = add("vocabulary", 20, 60, 2);
  model->vocab_size = 30'000;
  add("rank", 50, 200, 130);
  model = add("deep", 30, 60, 9);
  model->intermediate_size = 4'500;
  add("long_sums", 380, 400, 40);
  model = add("wide_head", 380, 400, 1);
  model->head_dim = 256;
  model->num_attention_heads = model->num_key_value_heads = 1;
  shapes.back().micro_batch_tokens = 400;  // One document at a time.
  return shapes;
}

class ScratchTest : public ::testing::TestWithParam<std::tuple<Shape, DType, int>> {
 protected:
  ScratchTest()
      : weights_(shape().model, std::get<1>(GetParam()), 5),
        machine_(NewBackend(), weights_, /*positions=*/512) {}

  static const Shape& shape() { return std::get<0>(GetParam()); }
  static std::unique_ptr<Backend> NewBackend() {
    const DType type = std::get<1>(GetParam());
    return *NewCpuBackend({.compute_type = type, .threads = std::get<2>(GetParam())});
  }

  TrainingJob Job(uint64_t seed, double dropout) const {
    TrainingJob job;
    const int examples = std::clamp(1'500 / shape().longest, 3, 40);
    job.data = RandomData(seed, examples, 2, shape().shortest, shape().longest);
    job.config.lora.rank = shape().rank;
    job.config.lora.lora_dropout = dropout;
    job.config.per_device_train_batch_size = examples;
    job.config.micro_batch_tokens = shape().micro_batch_tokens;
    job.config.max_steps = 1;
    job.config.eval_steps = 1;
    return job;
  }

  void ExpectNothingUnreserved(const char* what) const {
    EXPECT_EQ(ScratchOf(machine_.backend()).unreserved, 0) << what;
    EXPECT_GT(ScratchOf(machine_.backend()).held, 0) << what;
  }

  const RandomModel weights_;
  Machine machine_;
};

INSTANTIATE_TEST_SUITE_P(All, ScratchTest,
                         ::testing::Combine(::testing::ValuesIn(Shapes()),
                                            ::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(1, 3)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name +
                                  std::string(NameOf(std::get<1>(info.param))) +
                                  std::to_string(std::get<2>(info.param));
                         });

TEST_P(ScratchTest, TrainingAndEvaluatingTakeWhatWasReserved) {
  machine_.Alone(Job(1, 0));
  ExpectNothingUnreserved("alone");
  machine_.Alone(Job(2, 0.2));
  ExpectNothingUnreserved("with dropout");
  machine_.Train({Job(3, 0.2), Job(4, 0), Job(5, 0.1), Job(6, 0)});
  ExpectNothingUnreserved("four together");
}

TEST_P(ScratchTest, ReleasedMemoryIsTakenAgainAndChangesNoByte) {
  const TrainingResult alone = machine_.Alone(Job(1, 0.1));
  const std::unique_ptr<TrainingRun> run = machine_.NewRun(Job(1, 0.1));
  while (run->active()) {
    machine_.Pass({run.get()});
    machine_.cohort().ReleaseMemory();
    EXPECT_EQ(ScratchOf(machine_.backend()).held, 0);
  }
  EXPECT_EQ(AdapterDigest(*run), alone.digest);
}

TEST_P(ScratchTest, GeneratingTakesWhatWasReserved) {
  auto generator = Generator::Create(machine_.model(), /*streams_max=*/8);
  ASSERT_TRUE(generator.ok()) << generator.status();
  const std::unique_ptr<TrainingRun> one = machine_.NewRun(Job(1, 0));
  const std::unique_ptr<TrainingRun> other = machine_.NewRun(Job(2, 0));
  for (int i = 0; i < 8; ++i) {
    GenerationRequest request;
    for (int j = 0; j < 20 + 40 * i; ++j) request.prompt.push_back(j % 50);
    request.max_new_tokens = 5;
    if (i % 3 > 0) request.adapter = i % 3 == 1 ? &one->adapter() : &other->adapter();
    ASSERT_TRUE((*generator)->Add(std::move(request)).ok());
  }
  while ((*generator)->active() > 0) ASSERT_TRUE((*generator)->Step().ok());
  ExpectNothingUnreserved("eight streams");
}

}  // namespace
}  // namespace deltaworks::trainer

// The whole model on the reference backend in f64: its backward pass is the derivative of its
// forward pass, packing changes nothing, and a cache changes nothing.

#include "trainer/model/llama.h"

#include <cmath>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "trainer/backend/reference/reference_backend.h"
#include "trainer/testing/random_model.h"

namespace deltaworks::trainer {
namespace {

using Ids = std::vector<int32_t>;

class LlamaTest : public ::testing::Test {
 protected:
  LlamaTest()
      : weights_(SmallConfig(), DType::kF32, /*seed=*/3),
        backend_(NewReferenceBackend(DType::kF64)),
        workspace_(*backend_, weights_.config()) {
    auto model = Llama::Create(*backend_, weights_.config(), weights_.tensors(),
                               {.positions_max = 64, .convert_weights = true});
    CHECK(model.ok()) << model.status();
    model_ = std::move(*model);
  }

  // An adapter whose A and B are both random, so that every gradient counts.
  std::unique_ptr<Adapter> RandomAdapter(LoraConfig config, uint64_t seed) {
    auto targets = ResolveTargets(config, model_->modules());
    CHECK(targets.ok()) << targets.status();
    auto adapter = Adapter::Create(*backend_, *targets, /*trainable=*/true);
    CHECK(adapter.ok()) << adapter.status();
    std::vector<float> values;
    for (int64_t i = 0; i < (*adapter)->elements(); ++i) {
      values.push_back(0.2f * std::sin(static_cast<float>(seed + 1) * (i + 1)));
    }
    (*adapter)->WriteParameters(values);
    return std::move(*adapter);
  }

  static Ids Labels(const Ids& ids) {
    Ids labels(ids.begin() + 1, ids.end());
    labels.push_back(-1);
    return labels;
  }

  const RandomModel weights_;
  const std::unique_ptr<Backend> backend_;
  std::unique_ptr<Llama> model_;
  Workspace workspace_;
  const Ids first_ = {7, 3, 49, 0, 12, 7};
  const Ids second_ = {1, 30, 30, 2};
};

TEST_F(LlamaTest, BackwardIsTheDerivativeOfForward) {
  const auto all = RandomAdapter({.rank = 2, .lora_alpha = 3}, 1);
  const auto some =
      RandomAdapter({.rank = 3, .target_modules = {"q_proj", "model.layers.1.mlp.down_proj"}}, 2);
  PackedBatch batch;
  batch.BeginSegment(all.get(), {.p = 0.3f, .seed = 4, .step = 1});
  batch.AppendDocument(first_, Labels(first_), 0.5);
  batch.AppendDocument(second_, Labels(second_), 0.25);
  batch.EndSegment();
  batch.BeginSegment(some.get(), {});
  batch.AppendDocument(second_, Labels(second_), 1.0);
  batch.EndSegment();
  const auto loss = [&] {
    const std::vector<double> losses = *model_->Losses(batch, workspace_);
    double sum = 0;
    for (size_t i = 0; i < losses.size(); ++i) sum += batch.label_weights[i] * losses[i];
    return sum;
  };
  ASSERT_TRUE(model_->LossesAndGradients(batch, workspace_).ok());
  for (Adapter* adapter : {all.get(), some.get()}) {
    double* values = adapter->parameters().as<double>();
    const double* gradient = adapter->gradient().as<double>();
    for (int64_t i = 0; i < adapter->elements(); i += 17) {
      const double h = 1e-5, before = values[i];
      values[i] = before + h;
      const double up = loss();
      values[i] = before - h;
      const double down = loss();
      values[i] = before;
      // The loss is of order 1: rounding 2^-52 / h = 2e-11, curvature h^2 = 1e-10 times the third
      // derivative, which is below 100 here.
      EXPECT_NEAR(gradient[i], (up - down) / (2 * h), 1e-8) << "element " << i;
    }
  }
}

TEST_F(LlamaTest, GradientsAreAddedToWhatIsThere) {
  const auto adapter = RandomAdapter({.rank = 2}, 1);
  PackedBatch batch;
  batch.BeginSegment(adapter.get(), {});
  batch.AppendDocument(first_, Labels(first_), 1.0);
  batch.EndSegment();
  ASSERT_TRUE(model_->LossesAndGradients(batch, workspace_).ok());
  const double once = adapter->gradient().as<double>()[5];
  ASSERT_TRUE(model_->LossesAndGradients(batch, workspace_).ok());
  // The same sum, added up from another start: 11 additions round differently.
  EXPECT_NEAR(adapter->gradient().as<double>()[5], 2 * once, 11 * 0x1p-53);
}

TEST_F(LlamaTest, AFreshAdapterChangesNoLogit) {
  auto targets = ResolveTargets(LoraConfig{}, model_->modules());
  const auto adapter = *Adapter::Create(*backend_, *targets, /*trainable=*/false);
  adapter->InitializeRandom(1);
  PackedBatch with, without;
  with.BeginSegment(adapter.get(), {});
  with.AppendDocument(first_, Labels(first_), 1);
  with.EndSegment();
  without.AppendDocument(first_, Labels(first_), 1);
  EXPECT_EQ(*model_->Logits(with, {5}, workspace_), *model_->Logits(without, {5}, workspace_));
}

TEST_F(LlamaTest, PackedDocumentsDoNotSeeEachOther) {
  const auto adapter = RandomAdapter({.rank = 2}, 1);
  PackedBatch packed, alone;
  packed.AppendDocument(first_, Labels(first_), 1);
  packed.BeginSegment(adapter.get(), {});
  packed.AppendDocument(second_, Labels(second_), 1);
  packed.EndSegment();
  alone.BeginSegment(adapter.get(), {});
  alone.AppendDocument(second_, Labels(second_), 1);
  alone.EndSegment();
  const std::vector<double> together = *model_->Losses(packed, workspace_);
  const std::vector<double> apart = *model_->Losses(alone, workspace_);
  ASSERT_EQ(together.size(), 5u + 3u);
  EXPECT_EQ(std::vector<double>(together.begin() + 5, together.end()), apart);
}

TEST_F(LlamaTest, TokensDecodedWithACacheHaveTheLogitsOfTheWhole) {
  const auto adapter = RandomAdapter({.rank = 2}, 1);
  PackedBatch whole;
  whole.BeginSegment(adapter.get(), {});
  whole.AppendDocument(first_, Labels(first_), 1);
  whole.EndSegment();
  const std::vector<float> want = *model_->Logits(whole, {3, 4, 5}, workspace_);

  const auto cache = *KvCache::Create(*backend_, model_->config(), 20);
  std::vector<float> got;
  // The first four tokens at once, then one by one; the stream owns cache rows 10..19.
  for (const auto& [begin, end] : std::vector<std::pair<int, int>>{{0, 4}, {4, 5}, {5, 6}}) {
    PackedBatch step;
    for (int i = begin; i < end; ++i) {
      step.ids.push_back(first_[i]);
      step.positions.push_back(i);
    }
    step.spans = {{0, end - begin, 10, 10 + end}};
    step.segments = {{0, end - begin, adapter.get(), {}}};
    const std::vector<float> logits =
        *model_->Logits(step, {end - begin - 1}, workspace_, ProductPath::kDecode, cache.get());
    got.insert(got.end(), logits.begin(), logits.end());
  }
  EXPECT_EQ(got, want);
}

TEST_F(LlamaTest, AWeightThatDoesNotFitIsNamed) {
  TensorMap tensors = weights_.tensors();
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  tensors[name].shape = {24, 40};
  const auto misshaped = Llama::Create(*backend_, weights_.config(), tensors,
                                       {.positions_max = 64, .convert_weights = true});
  EXPECT_EQ(misshaped.status().message(), name + " is [24, 40], want [40, 24]");
  tensors.erase(name);
  const auto absent = Llama::Create(*backend_, weights_.config(), tensors,
                                    {.positions_max = 64, .convert_weights = true});
  EXPECT_EQ(absent.status().message(), name + " is absent, want [40, 24]");
  const auto other_type =
      Llama::Create(*backend_, weights_.config(), weights_.tensors(), {.positions_max = 64});
  EXPECT_EQ(other_type.status().message(),
            "model.embed_tokens.weight is F32, want F64: the base's form must be the compute type");
  const auto too_long = Llama::Create(*backend_, weights_.config(), weights_.tensors(),
                                      {.positions_max = 257, .convert_weights = true});
  EXPECT_TRUE(absl::IsInvalidArgument(too_long.status()));
}

TEST_F(LlamaTest, TheWorkspaceIsAsLargeAsItWasPlanned) {
  const WorkspaceSize size{.rows = 100, .labels = 50, .hidden = {24, 8, 16, 8}, .training = true};
  const int64_t planned = Workspace::Bytes(*backend_, weights_.config(), size);
  // Per row: what the header lists, in f64.
  const int64_t layer = 2 * 24 + 2 + 24 + 12 + 12 + 24 + 4 + 2 * 40 + 56;
  EXPECT_GE(planned, 8 * 100 * 2 * layer);
  EXPECT_LE(planned, 8 * 100 * (2 * layer + 800));
  EXPECT_TRUE(workspace_.Reserve(size).ok());
}

}  // namespace
}  // namespace deltaworks::trainer

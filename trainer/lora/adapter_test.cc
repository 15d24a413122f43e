#include "trainer/lora/adapter.h"

#include <cmath>

#include "gtest/gtest.h"
#include "trainer/backend/reference/reference_backend.h"

namespace deltaworks::trainer {
namespace {

std::vector<LoraTarget> Targets() {
  const std::vector<LinearModule> modules = {{"model.layers.2.mlp.up_proj", 12, 8, 2, 5},
                                             {"model.layers.10.mlp.up_proj", 12, 8, 10, 5}};
  return *ResolveTargets(LoraConfig{.rank = 3, .lora_alpha = 6}, modules);
}

TEST(AdapterTest, TensorsLieInOrderOfTheirNames) {
  const auto backend = NewReferenceBackend(DType::kF32);
  const auto adapter = *Adapter::Create(*backend, Targets(), /*trainable=*/true);
  ASSERT_EQ(adapter->tensors().size(), 4u);
  EXPECT_EQ(adapter->tensors()[0].name,
            "base_model.model.model.layers.10.mlp.up_proj.lora_A.weight");
  EXPECT_EQ(adapter->tensors()[1].name,
            "base_model.model.model.layers.10.mlp.up_proj.lora_B.weight");
  EXPECT_EQ(adapter->tensors()[2].offset, 3 * 8 + 12 * 3);
  EXPECT_EQ(adapter->elements(), 2 * (3 * 8 + 12 * 3));
  EXPECT_EQ(adapter->lowest_layer(), 2);
}

TEST(AdapterTest, ItStartsAsNoChange) {
  const auto backend = NewReferenceBackend(DType::kF32);
  const auto adapter = *Adapter::Create(*backend, Targets(), /*trainable=*/true);
  adapter->InitializeRandom(/*seed=*/5);
  const std::vector<float> values = adapter->ReadParameters();
  const float bound = 1 / std::sqrt(8.0f);
  double sum_of_a = 0, squares_of_a = 0;
  for (const AdapterTensor& tensor : adapter->tensors()) {
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      const float value = values[tensor.offset + i];
      if (tensor.is_a) {
        EXPECT_LT(std::abs(value), bound);
        sum_of_a += value;
        squares_of_a += value * value;
      } else {
        EXPECT_EQ(value, 0.0f);
      }
    }
  }
  // 48 draws: mean 0 with deviation bound / sqrt(3 * 48), variance bound^2 / 3.
  EXPECT_NEAR(sum_of_a / 48, 0, 4 * bound / std::sqrt(144.0));
  EXPECT_NEAR(squares_of_a / 48, bound * bound / 3, bound * bound / 6);
}

TEST(AdapterTest, TheSeedDecidesTheStart) {
  const auto backend = NewReferenceBackend(DType::kF32);
  const auto first = *Adapter::Create(*backend, Targets(), true);
  const auto second = *Adapter::Create(*backend, Targets(), true);
  first->InitializeRandom(5);
  second->InitializeRandom(5);
  EXPECT_EQ(first->ReadParameters(), second->ReadParameters());
  second->InitializeRandom(6);
  EXPECT_NE(first->ReadParameters(), second->ReadParameters());
}

TEST(AdapterTest, PairsPointIntoTheArrays) {
  const auto backend = NewReferenceBackend(DType::kF32);
  const auto adapter = *Adapter::Create(*backend, Targets(), true);
  std::vector<float> values(adapter->elements());
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  adapter->WriteParameters(values);
  const LoraPair* pair = adapter->pair(/*layer=*/2, /*slot=*/5);
  ASSERT_NE(pair, nullptr);
  EXPECT_EQ(pair->rank(), 3);
  EXPECT_EQ(pair->scale, 2.0f);
  EXPECT_EQ(pair->a.as<const float>()[0], 60.0f);
  EXPECT_EQ(pair->b.as<const float>()[0], 60.0f + 24.0f);
  EXPECT_EQ(adapter->pair(2, 4), nullptr);
  EXPECT_EQ(adapter->pair(3, 5), nullptr);
}

TEST(AdapterTest, MomentsAreKeptApart) {
  const auto backend = NewReferenceBackend(DType::kF64);
  const auto adapter = *Adapter::Create(*backend, Targets(), true);
  const std::vector<float> ones(adapter->elements(), 1.0f), twos(adapter->elements(), 2.0f);
  adapter->WriteMoments(ones, twos);
  EXPECT_EQ(adapter->ReadM(), ones);
  EXPECT_EQ(adapter->ReadV(), twos);
  EXPECT_EQ(adapter->ReadParameters(), std::vector<float>(adapter->elements(), 0.0f));
}

}  // namespace
}  // namespace deltaworks::trainer

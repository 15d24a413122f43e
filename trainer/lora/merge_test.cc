#include "trainer/lora/merge.h"

#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

constexpr char kName[] = "model.layers.0.mlp.up_proj.weight";

std::vector<LoraTarget> Target(int64_t rank) {
  return {{.module = {"model.layers.0.mlp.up_proj", 2, 3, 0, 5}, .rank = rank, .scale = 0.5f}};
}

TEST(MergeTest, TheAdapterIsAddedAndTheRestStays) {
  const std::vector<float> weight = {1, 2, 3, 4, 5, 6}, other = {7, 8};
  TensorMap base;
  base[kName] = ConstTensorView(weight.data(), DType::kF32, {2, 3});
  base["model.norm.weight"] = ConstTensorView(other.data(), DType::kF32, {2});
  // A = [1 2 4], B = [2; -4].
  const std::vector<float> values = {1, 2, 4, 2, -4};
  const auto merged = MergedWeights::Create(base, Target(1), values);
  ASSERT_TRUE(merged.ok()) << merged.status();
  const float* result = (*merged)->tensors().at(kName).as<const float>();
  EXPECT_EQ(std::vector<float>(result, result + 6), (std::vector<float>{2, 4, 7, 2, 1, -2}));
  EXPECT_EQ((*merged)->merge_error(), 0);
  EXPECT_EQ((*merged)->tensors().at("model.norm.weight").data, other.data());
  EXPECT_EQ((*merged)->tensors().size(), base.size());
  EXPECT_EQ(weight, (std::vector<float>{1, 2, 3, 4, 5, 6}));
}

TEST(MergeTest, InBf16TheSumIsRoundedOnce) {
  std::vector<BFloat16> weight;
  std::vector<float> values;
  for (int i = 0; i < 6; ++i) weight.emplace_back(0.37f * (i + 1));
  for (int i = 0; i < 2 * 3 + 2 * 2; ++i) values.push_back(std::sin(1.0f + i));
  TensorMap base;
  base[kName] = ConstTensorView(weight.data(), DType::kBF16, {2, 3});
  const auto merged = MergedWeights::Create(base, Target(2), values);
  ASSERT_TRUE(merged.ok()) << merged.status();
  const BFloat16* result = (*merged)->tensors().at(kName).as<const BFloat16>();
  for (int n = 0; n < 2; ++n) {
    for (int k = 0; k < 3; ++k) {
      double sum = static_cast<float>(weight[n * 3 + k]);
      for (int r = 0; r < 2; ++r) sum += 0.5 * values[6 + n * 2 + r] * values[r * 3 + k];
      EXPECT_EQ(static_cast<float>(result[n * 3 + k]),
                static_cast<float>(BFloat16(static_cast<float>(sum))));
    }
  }
  EXPECT_GT((*merged)->merge_error(), 0);
  EXPECT_LE((*merged)->merge_error(), 0x1p-8 + 0x1p-20);
}

TEST(MergeTest, ABaseThatDoesNotFitIsRefused) {
  const std::vector<float> weight(6), values(5);
  TensorMap base;
  EXPECT_EQ(MergedWeights::Create(base, Target(1), values).status().message(),
            "model.layers.0.mlp.up_proj.weight is absent, want [2, 3]");
  base[kName] = ConstTensorView(weight.data(), DType::kF32, {3, 2});
  EXPECT_EQ(MergedWeights::Create(base, Target(1), values).status().message(),
            "model.layers.0.mlp.up_proj.weight is [3, 2], want [2, 3]");
}

}  // namespace
}  // namespace deltaworks::trainer

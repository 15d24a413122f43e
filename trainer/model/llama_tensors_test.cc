#include "trainer/model/llama_tensors.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelConfig SmolLm2() {
  return {.vocab_size = 49152,
          .hidden_size = 576,
          .intermediate_size = 1536,
          .num_hidden_layers = 30,
          .num_attention_heads = 9,
          .num_key_value_heads = 3,
          .head_dim = 64,
          .max_position_embeddings = 8192,
          .rms_norm_eps = 1e-5,
          .rope_theta = 1e5,
          .tie_word_embeddings = true};
}

std::string ErrorOf(const ModelConfig& config, const ShapeMap& shapes) {
  return std::string(CheckLlamaTensors(config, shapes, "f").message());
}

TEST(LlamaTensorsTest, ARealModelHasItsTensorsAndParameters) {
  const ShapeMap shapes = LlamaTensorShapes(SmolLm2());
  EXPECT_EQ(shapes.size(), 272);
  EXPECT_EQ(LlamaParameters(SmolLm2()), 134'515'008);
  EXPECT_THAT(shapes.at("model.layers.29.self_attn.k_proj.weight"), ElementsAre(192, 576));
  EXPECT_THAT(shapes.at("model.layers.0.mlp.down_proj.weight"), ElementsAre(576, 1536));
}

TEST(LlamaTensorsTest, AnUntiedModelHasAnOutputLayer) {
  ModelConfig config = SmolLm2();
  config.tie_word_embeddings = false;
  const ShapeMap shapes = LlamaTensorShapes(config);
  EXPECT_EQ(shapes.size(), 273);
  EXPECT_THAT(shapes.at("lm_head.weight"), ElementsAre(49152, 576));
}

TEST(LlamaTensorsTest, AWideHeadMakesTheProjectionsWide) {
  ModelConfig config = SmolLm2();
  config.head_dim = 128;
  const ShapeMap shapes = LlamaTensorShapes(config);
  EXPECT_THAT(shapes.at(LayerTensor(0, "self_attn.q_proj")), ElementsAre(1152, 576));
  EXPECT_THAT(shapes.at(LayerTensor(0, "self_attn.o_proj")), ElementsAre(576, 1152));
}

TEST(LlamaTensorsTest, MissingExtraAndMisshapedTensorsAreNamed) {
  const ModelConfig config = SmolLm2();
  ShapeMap shapes = LlamaTensorShapes(config);
  EXPECT_EQ(ErrorOf(config, shapes), "");

  shapes.erase("model.norm.weight");
  EXPECT_EQ(ErrorOf(config, shapes),
            "f: has 271 tensors without model.norm.weight [576], want all 272 of a Llama model "
            "with 30 layers");

  shapes = LlamaTensorShapes(config);
  shapes["model.norm.weight"] = {575};
  EXPECT_EQ(ErrorOf(config, shapes),
            "f: tensor model.norm.weight has shape [575], want [576] by the config");

  shapes = LlamaTensorShapes(config);
  shapes["lm_head.weight"] = {49152, 576};
  EXPECT_EQ(ErrorOf(config, shapes),
            "f: has lm_head.weight [49152, 576], want only the 272 tensors of a Llama model with "
            "30 layers and tied embeddings");
}

TEST(LlamaTensorsTest, ALongListOfMissingTensorsIsCut) {
  EXPECT_THAT(ErrorOf(SmolLm2(), {}), HasSubstr("and 269 more"));
}

TEST(LlamaTensorsTest, VectorsAreF32InEveryForm) {
  EXPECT_EQ(StoredDType(DType::kBF16, {576}), DType::kF32);
  EXPECT_EQ(StoredDType(DType::kBF16, {576, 576}), DType::kBF16);
  EXPECT_EQ(StoredDType(DType::kF32, {576, 576}), DType::kF32);
}

}  // namespace
}  // namespace deltaworks::trainer

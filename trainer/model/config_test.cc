// config.json decides what is computed: what is read must be what was meant, and what we would
// compute wrongly must be refused.

#include "trainer/model/config.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/json.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// SmolLM2-135M-Instruct, as transformers 4 wrote it.
Json Sample() {
  return {{"architectures", Json::array({"LlamaForCausalLM"})},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"bos_token_id", 1},
          {"eos_token_id", 2},
          {"hidden_act", "silu"},
          {"hidden_size", 576},
          {"initializer_range", 0.041},
          {"intermediate_size", 1536},
          {"is_llama_config", true},
          {"max_position_embeddings", 8192},
          {"mlp_bias", false},
          {"model_type", "llama"},
          {"num_attention_heads", 9},
          {"num_hidden_layers", 30},
          {"num_key_value_heads", 3},
          {"pad_token_id", 2},
          {"pretraining_tp", 1},
          {"rms_norm_eps", 1e-05},
          {"rope_interleaved", false},
          {"rope_scaling", nullptr},
          {"rope_theta", 100000},
          {"tie_word_embeddings", true},
          {"torch_dtype", "bfloat16"},
          {"transformers_version", "4.42.3"},
          {"use_cache", true},
          {"vocab_size", 49152}};
}

Json Llama3Scaling() {
  return {{"rope_type", "llama3"},
          {"factor", 32.0},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 8192}};
}

absl::StatusOr<ModelConfig> ParseWith(const std::string& name, const Json& value) {
  Json json = Sample();
  json[name] = value;
  return ModelConfig::Parse(JsonText(json), "c");
}

// The message of Sample() with `name` changed; "" if it was accepted.
std::string ErrorWith(const std::string& name, const Json& value) {
  const auto result = ParseWith(name, value);
  EXPECT_TRUE(result.ok() || absl::IsInvalidArgument(result.status())) << result.status();
  return std::string(result.status().message());
}

TEST(ModelConfigTest, ARealConfigIsRead) {
  const auto config = ModelConfig::Parse(JsonText(Sample()));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->vocab_size, 49152);
  EXPECT_EQ(config->hidden_size, 576);
  EXPECT_EQ(config->intermediate_size, 1536);
  EXPECT_EQ(config->num_hidden_layers, 30);
  EXPECT_EQ(config->num_attention_heads, 9);
  EXPECT_EQ(config->num_key_value_heads, 3);
  EXPECT_EQ(config->head_dim, 64);
  EXPECT_EQ(config->max_position_embeddings, 8192);
  EXPECT_EQ(config->rms_norm_eps, 1e-5);
  EXPECT_EQ(config->rope_theta, 100000);
  EXPECT_FALSE(config->rope_scaling.has_value());
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->bos_token_id, 1);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(2));
  EXPECT_EQ(config->pad_token_id, 2);
  EXPECT_EQ(config->torch_dtype, "bfloat16");
}

TEST(ModelConfigTest, WhatIsAbsentHasHuggingFacesDefault) {
  const auto config = ModelConfig::Parse(
      R"({"model_type":"llama","vocab_size":32000,"hidden_size":64,"intermediate_size":100,)"
      R"("num_hidden_layers":2,"num_attention_heads":4})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_key_value_heads, 4);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->max_position_embeddings, 2048);
  EXPECT_EQ(config->rms_norm_eps, 1e-6);
  EXPECT_EQ(config->rope_theta, 10000);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_FALSE(config->bos_token_id.has_value());
  EXPECT_THAT(config->eos_token_ids, IsEmpty());
  EXPECT_FALSE(config->torch_dtype.has_value());
}

TEST(ModelConfigTest, TheNormalFormIsAFixedPoint) {
  Json json = Sample();
  json["rope_scaling"] = Llama3Scaling();
  json["eos_token_id"] = {128001, 7};
  json["vocab_size"] = 128256;
  json["rms_norm_eps"] = 0.1234567890123;
  for (const Json& each : {Sample(), json}) {
    const auto config = ModelConfig::Parse(JsonText(each));
    ASSERT_TRUE(config.ok()) << config.status();
    const auto again = ModelConfig::Parse(config->ToJson());
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*again, *config);
    EXPECT_EQ(again->ToJson(), config->ToJson());
  }
}

TEST(ModelConfigTest, BothGenerationsOfTransformersAreRead) {
  Json old_style = Sample();
  old_style["rope_scaling"] = Llama3Scaling();
  Json new_style = Sample();
  new_style.erase("rope_theta");
  new_style.erase("rope_scaling");
  new_style.erase("torch_dtype");
  new_style["rope_parameters"] = Llama3Scaling();
  new_style["rope_parameters"]["rope_theta"] = 100000.0;
  new_style["dtype"] = "bfloat16";
  const auto old_config = ModelConfig::Parse(JsonText(old_style));
  const auto new_config = ModelConfig::Parse(JsonText(new_style));
  ASSERT_TRUE(old_config.ok()) << old_config.status();
  ASSERT_TRUE(new_config.ok()) << new_config.status();
  EXPECT_EQ(*old_config, *new_config);
  ASSERT_TRUE(new_config->rope_scaling.has_value());
  EXPECT_EQ(new_config->rope_scaling->factor, 32);
}

TEST(ModelConfigTest, SeveralEndTokensAreKept) {
  const auto config = ParseWith("eos_token_id", {5, 9});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->eos_token_ids, ElementsAre(5, 9));
}

TEST(ModelConfigTest, APadTokenOfMinusOneMeansNone) {
  const auto config = ParseWith("pad_token_id", -1);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->pad_token_id.has_value());
}

TEST(ModelConfigTest, AHeadMayBeWiderThanItsShareOfTheHiddenSize) {
  const auto config = ParseWith("head_dim", 128);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->head_dim, 128);
}

TEST(ModelConfigRefusalTest, OtherArchitecturesAreNamed) {
  EXPECT_EQ(ErrorWith("model_type", "mistral"),
            "c: model_type is \"mistral\", want \"llama\", the only supported one");
  EXPECT_THAT(ErrorWith("model_type", nullptr), HasSubstr("c: model_type is null"));
  EXPECT_THAT(ErrorWith("architectures", Json::array({"LlamaForSequenceClassification"})),
              HasSubstr("want [\"LlamaForCausalLM\"]"));
}

TEST(ModelConfigRefusalTest, WhatWeWouldComputeWronglyIsRefused) {
  EXPECT_EQ(ErrorWith("attention_bias", true), "c: attention_bias is true, want false or none");
  EXPECT_THAT(ErrorWith("mlp_bias", true), HasSubstr("c: mlp_bias is true"));
  EXPECT_THAT(ErrorWith("hidden_act", "gelu"), HasSubstr("hidden_act is \"gelu\", want \"silu\""));
  EXPECT_THAT(ErrorWith("rope_interleaved", true), HasSubstr("rope_interleaved is true"));
  EXPECT_THAT(ErrorWith("partial_rotary_factor", 0.5), HasSubstr("partial_rotary_factor is 0.5"));
  EXPECT_THAT(ErrorWith("sliding_window", 4096), HasSubstr("sliding_window is 4096, want none"));
  EXPECT_THAT(ErrorWith("quantization_config", {{"bits", 4}}),
              HasSubstr("quantization_config is {\"bits\":4}, want none"));
}

TEST(ModelConfigRefusalTest, UnknownRopeScalingIsNamedWithWhatIsSupported) {
  EXPECT_EQ(ErrorWith("rope_scaling", {{"type", "linear"}, {"factor", 2.0}}),
            "c: rope_scaling: type is \"linear\", want \"default\" or \"llama3\"");
  EXPECT_THAT(ErrorWith("rope_parameters", {{"rope_type", "yarn"}}),
              HasSubstr("rope_parameters: rope_type is \"yarn\""));
  EXPECT_EQ(ErrorWith("rope_scaling", {{"rope_type", "default"}}), "");
  EXPECT_THAT(ErrorWith("rope_scaling", 3), HasSubstr("rope_scaling is 3, want an object or none"));
  Json scaling = Llama3Scaling();
  scaling.erase("factor");
  EXPECT_THAT(ErrorWith("rope_scaling", scaling), HasSubstr("rope_scaling: factor is absent"));
  scaling["factor"] = 0.5;
  EXPECT_THAT(ErrorWith("rope_scaling", scaling), HasSubstr("rope_scaling: factor is 0.5"));
  scaling = Llama3Scaling();
  scaling["high_freq_factor"] = 1.0;
  EXPECT_THAT(ErrorWith("rope_scaling", scaling), HasSubstr("want 0 < low < high"));
  scaling = Llama3Scaling();
  scaling["original_max_position_embeddings"] = 0;
  EXPECT_THAT(ErrorWith("rope_scaling", scaling), HasSubstr("max_position_embeddings is 0"));
}

TEST(ModelConfigRefusalTest, SizesArePositiveAndBounded) {
  for (const char* name :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const int64_t wrong : {int64_t{0}, int64_t{-1}, int64_t{1} << 40}) {
      EXPECT_THAT(ErrorWith(name, wrong), HasSubstr(name)) << wrong;
    }
    EXPECT_THAT(ErrorWith(name, "12"),
                HasSubstr(absl::StrCat(name, " is \"12\", want an integer")));
    EXPECT_NE(ErrorWith(name, 2.5), "");
  }
}

TEST(ModelConfigRefusalTest, HeadsDivideAndTheirSizeIsEven) {
  EXPECT_THAT(ErrorWith("num_attention_heads", 7),
              HasSubstr("num_attention_heads is 7, want a divisor of hidden_size 576"));
  EXPECT_THAT(ErrorWith("num_key_value_heads", 2),
              HasSubstr("num_key_value_heads is 2, want a divisor of num_attention_heads 9"));
  EXPECT_THAT(ErrorWith("head_dim", 63), HasSubstr("head_dim is 63, want an even number"));
  EXPECT_THAT(ErrorWith("head_dim", 258), HasSubstr("head_dim is 258, want 1..256"));
}

TEST(ModelConfigRefusalTest, NumbersAreInTheirRange) {
  EXPECT_THAT(ErrorWith("rms_norm_eps", 0.0), HasSubstr("rms_norm_eps is 0"));
  EXPECT_THAT(ErrorWith("rms_norm_eps", 1.0), HasSubstr("rms_norm_eps is 1"));
  EXPECT_THAT(ErrorWith("rope_theta", 0.0), HasSubstr("rope_theta is 0"));
  EXPECT_THAT(ErrorWith("bos_token_id", 49152), HasSubstr("bos_token_id is 49152, want 0..49151"));
  EXPECT_THAT(ErrorWith("eos_token_id", {2, 50000}), HasSubstr("eos_token_id is 50000"));
  EXPECT_THAT(ErrorWith("eos_token_id", {2, "x"}), HasSubstr("a list of integers"));
  EXPECT_THAT(ErrorWith("pad_token_id", -2), HasSubstr("pad_token_id is -2"));
}

TEST(ModelConfigRefusalTest, TextThatIsNoConfigIsRefused) {
  EXPECT_THAT(std::string(ModelConfig::Parse("{", "c").status().message()), HasSubstr("not JSON"));
  EXPECT_THAT(std::string(ModelConfig::Parse("[]", "c").status().message()),
              HasSubstr("the text is array, want an object"));
  EXPECT_FALSE(ModelConfig::Parse("{}", "c").ok());
}

}  // namespace
}  // namespace deltaworks::trainer

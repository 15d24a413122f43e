#include "trainer/lora/peft_format.h"

#include <cmath>
#include <functional>
#include <limits>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/json.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

const std::vector<LinearModule>& Modules() {
  static const auto* modules =
      new std::vector<LinearModule>{{"model.layers.0.self_attn.q_proj", 6, 4, 0, 0},
                                    {"model.layers.0.self_attn.v_proj", 2, 4, 0, 2}};
  return *modules;
}

class PeftFormatTest : public ::testing::Test {
 protected:
  PeftFormatTest() {
    config_.rank = 2;
    config_.target_modules = {"q_proj", "v_proj"};
    config_.rank_pattern = {{"v_proj", 1}};
    const auto targets = *ResolveTargets(config_, Modules());
    tensors_ = AdapterTensors(targets);
    for (int i = 0; i < TrainableParameters(targets); ++i) values_.push_back(0.25f * i);
    files_ = SerializePeft(config_, tensors_, values_, "hub/base", "sha256:base");
  }

  // The error of reading the files after `change` to the configuration.
  std::string ErrorAfter(const std::function<void(Json&)>& change) {
    Json json = *ParseJson(files_.adapter_config, "test");
    change(json);
    const auto adapter = ParsePeft(files_.adapter_model, JsonText(json), Modules());
    EXPECT_TRUE(absl::IsInvalidArgument(adapter.status())) << adapter.status();
    return std::string(adapter.status().message());
  }

  LoraConfig config_;
  std::vector<AdapterTensor> tensors_;
  std::vector<float> values_;
  PeftFiles files_;
};

TEST_F(PeftFormatTest, WhatWasWrittenIsRead) {
  const auto adapter = ParsePeft(files_.adapter_model, files_.adapter_config, Modules());
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  EXPECT_EQ(adapter->values, values_);
  EXPECT_EQ(adapter->config.rank, 2);
  EXPECT_EQ(adapter->config.rank_pattern, config_.rank_pattern);
  EXPECT_EQ(adapter->base_digest, "sha256:base");
}

TEST_F(PeftFormatTest, EqualAdaptersAreEqualBytes) {
  const PeftFiles again = SerializePeft(config_, tensors_, values_, "hub/base", "sha256:base");
  EXPECT_EQ(again.adapter_model, files_.adapter_model);
  EXPECT_EQ(again.adapter_config, files_.adapter_config);
}

TEST_F(PeftFormatTest, AFolderHoldsBothFiles) {
  const std::string folder = ::testing::TempDir() + "/adapter";
  ASSERT_TRUE(WritePeftFolder(folder, files_).ok());
  const auto adapter = ReadPeftFolder(folder, Modules());
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  EXPECT_EQ(adapter->values, values_);
  EXPECT_TRUE(absl::IsNotFound(ReadPeftFolder(folder + "/none", Modules()).status()));
}

TEST_F(PeftFormatTest, LoraThatCannotBeAppliedIsRefused) {
  EXPECT_EQ(ErrorAfter([](Json& json) { json["use_dora"] = true; }),
            "adapter_config.json: use_dora is true, want false: no other value is supported");
  EXPECT_EQ(ErrorAfter([](Json& json) { json["modules_to_save"] = {"lm_head"}; }),
            "adapter_config.json: modules_to_save is [\"lm_head\"], want null: no other value is "
            "supported");
  EXPECT_EQ(ErrorAfter([](Json& json) { json["peft_type"] = "IA3"; }),
            "adapter_config.json: peft_type is IA3, want LORA");
  EXPECT_THAT(ErrorAfter([](Json& json) { json["target_modules"] = ".*q_proj"; }),
              HasSubstr("a regular expression is not supported"));
  EXPECT_THAT(ErrorAfter([](Json& json) { json.erase("r"); }), HasSubstr("r is absent"));
}

TEST_F(PeftFormatTest, TensorsMustFitTheConfiguration) {
  EXPECT_EQ(ErrorAfter([](Json& json) { json["r"] = 3; }),
            "adapter_model.safetensors: base_model.model.model.layers.0.self_attn.q_proj.lora_A."
            "weight is [2, 4], want [3, 4]");
  EXPECT_THAT(ErrorAfter([](Json& json) { json["target_modules"] = {"v_proj"}; }),
              HasSubstr("belongs to no target"));
  EXPECT_THAT(ErrorAfter([](Json& json) { json["r"] = 1024; }), HasSubstr("want at least"));
}

TEST_F(PeftFormatTest, ANumberThatIsNotFiniteIsRefused) {
  values_[3] = std::numeric_limits<float>::quiet_NaN();
  files_ = SerializePeft(config_, tensors_, values_, "hub/base", "");
  const auto adapter = ParsePeft(files_.adapter_model, files_.adapter_config, Modules());
  EXPECT_EQ(adapter.status().message(),
            "adapter_model.safetensors: base_model.model.model.layers.0.self_attn.q_proj.lora_A."
            "weight element 3 is nan, want finite");
}

TEST_F(PeftFormatTest, ATruncatedFileIsRefused) {
  files_.adapter_model.resize(files_.adapter_model.size() - 1);
  EXPECT_TRUE(absl::IsInvalidArgument(
      ParsePeft(files_.adapter_model, files_.adapter_config, Modules()).status()));
}

}  // namespace
}  // namespace deltaworks::trainer

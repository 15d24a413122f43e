// Folders as transformers writes them, and folders as nobody should.

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/formats/safetensors.h"
#include "trainer/import/model_source.h"
#include "trainer/import/tiny_model.h"
#include "trainer/model/llama_tensors.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

class HfSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(::testing::TempDir(), "/hf_",
                           ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
  }

  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFileAtomically(folder_ + "/" + name, text).ok());
  }
  Json Read(const std::string& name) {
    auto json = ParseJson(*ReadFile(folder_ + "/" + name), name);
    EXPECT_TRUE(json.ok()) << json.status();
    return *std::move(json);
  }

  // The folder's weights with `extra` among them.
  void AddTensor(const std::string& name, const ConstTensorView& extra) {
    const auto file = SafetensorsFile::Open(folder_ + "/model.safetensors");
    ASSERT_TRUE(file.ok()) << file.status();
    TensorMap tensors = (*file)->tensors();
    tensors[name] = extra;
    Write("model.safetensors", SerializeSafetensors(tensors, {}));
  }

  std::string Error() {
    const auto source = OpenModelSource(folder_);
    EXPECT_TRUE(source.ok() || absl::IsInvalidArgument(source.status())) << source.status();
    return std::string(source.status().message());
  }

  std::string folder_;
};

TEST_F(HfSourceTest, AFolderIsRead) {
  const TinyModel model = MakeTinyModel();
  WriteTinyHfFolder(model, folder_, {.dtype = DType::kF16});
  const auto source = OpenModelSource(folder_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->config(), model.config);
  const std::string name = LayerTensor(1, "mlp.down_proj");
  EXPECT_EQ((*source)->tensors().at(name).dtype, "F16");
  std::vector<float> rows(3 * 64);
  (*source)->ReadRows(name, 2, 5, absl::MakeSpan(rows));
  const std::vector<float>& want = model.weights.at(name);
  EXPECT_EQ(rows, std::vector<float>(want.begin() + 2 * 64, want.begin() + 5 * 64));
}

TEST_F(HfSourceTest, TheTokenizerIsKeptByteForByteAndItsConfigInNormalForm) {
  const TinyModel model = MakeTinyModel();
  WriteTinyHfFolder(model, folder_);
  const auto source = OpenModelSource(folder_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->tokenizer().tokenizer_json, *ReadFile(folder_ + "/tokenizer.json"));
  const auto config = ParseJson((*source)->tokenizer().tokenizer_config_json, "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ((*config)["eos_token"], "<|im_end|>");
  EXPECT_EQ((*config)["bos_token"], "<|im_start|>");
  EXPECT_EQ((*config)["chat_template"], model.chat_template);
}

TEST_F(HfSourceTest, AChatTemplateInItsOwnFileIsTheSame) {
  const TinyModel model = MakeTinyModel();
  WriteTinyHfFolder(model, folder_ + "/a");
  WriteTinyHfFolder(model, folder_ + "/b", {.template_in_file = true});
  const auto a = OpenModelSource(folder_ + "/a");
  const auto b = OpenModelSource(folder_ + "/b");
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  EXPECT_EQ((*a)->tokenizer().tokenizer_config_json, (*b)->tokenizer().tokenizer_config_json);
}

TEST_F(HfSourceTest, OfSeveralChatTemplatesTheDefaultIsKept) {
  WriteTinyHfFolder(MakeTinyModel(), folder_);
  Json config = Read("tokenizer_config.json");
  config["chat_template"] = Json::array(
      {{{"name", "tool"}, {"template", "T"}}, {{"name", "default"}, {"template", "D"}}});
  Write("tokenizer_config.json", JsonText(config));
  const auto source = OpenModelSource(folder_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT((*source)->tokenizer().tokenizer_config_json, HasSubstr("\"chat_template\": \"D\""));
  config["chat_template"].erase(1);
  Write("tokenizer_config.json", JsonText(config));
  EXPECT_THAT(Error(), HasSubstr("want a text or a list with one named \"default\""));
}

TEST_F(HfSourceTest, EachMissingFileIsNamed) {
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    WriteTinyHfFolder(MakeTinyModel(), folder_);
    fs::remove(folder_ + "/" + name);
    const auto source = OpenModelSource(folder_);
    EXPECT_TRUE(absl::IsNotFound(source.status())) << source.status();
    EXPECT_THAT(std::string(source.status().message()), HasSubstr(name));
  }
  WriteTinyHfFolder(MakeTinyModel(), folder_);
  fs::remove(folder_ + "/model.safetensors");
  const auto source = OpenModelSource(folder_);
  EXPECT_TRUE(absl::IsNotFound(source.status())) << source.status();
  EXPECT_THAT(std::string(source.status().message()),
              HasSubstr("has neither model.safetensors nor model.safetensors.index.json"));
}

TEST_F(HfSourceTest, AnIndexThatDisagreesWithItsShardsIsRefused) {
  WriteTinyHfFolder(MakeTinyModel(), folder_, {.shards = 2});
  ASSERT_TRUE(OpenModelSource(folder_).ok());
  const Json good = Read("model.safetensors.index.json");
  const std::string first = "model-00001-of-00002.safetensors";
  const std::string second = "model-00002-of-00002.safetensors";
  const std::string name = "model.norm.weight";
  const std::string other = good["weight_map"][name] == first ? second : first;

  Json index = good;
  index["weight_map"][name] = other;
  Write("model.safetensors.index.json", JsonText(index));
  EXPECT_THAT(Error(), HasSubstr(name));

  index = good;
  index["weight_map"].erase(name);
  Write("model.safetensors.index.json", JsonText(index));
  EXPECT_THAT(Error(), HasSubstr(absl::StrCat("has tensor ", name, ", want only those that")));

  for (const char* file : {"../x.safetensors", "/etc/passwd", "weights.bin", ""}) {
    index = good;
    index["weight_map"][name] = file;
    Write("model.safetensors.index.json", JsonText(index));
    EXPECT_THAT(Error(), HasSubstr("want the name of a .safetensors file of this folder"));
  }

  Write("model.safetensors.index.json", "{}");
  EXPECT_THAT(Error(), HasSubstr("has no object weight_map"));

  Write("model.safetensors.index.json", JsonText(good));
  fs::remove(folder_ + "/" + second);
  EXPECT_TRUE(absl::IsNotFound(OpenModelSource(folder_).status()));
}

TEST_F(HfSourceTest, TensorsOfOtherTypesAreRefused) {
  WriteTinyHfFolder(MakeTinyModel(), folder_);
  const std::vector<int64_t> zeros(32);
  AddTensor("model.norm.weight", {zeros.data(), DType::kI64, {32}});
  EXPECT_THAT(Error(), HasSubstr("model.norm.weight is I64, want F32, F16 or BF16"));
}

TEST_F(HfSourceTest, ATensorOfAWrongShapeIsRefusedWithTheShapeOfTheConfig) {
  WriteTinyHfFolder(MakeTinyModel(), folder_);
  const std::vector<float> zeros(32 * 64);
  const std::string name = LayerTensor(0, "mlp.down_proj");
  AddTensor(name, {zeros.data(), DType::kF32, {64, 32}});
  EXPECT_THAT(Error(), HasSubstr(name + " has shape [64, 32], want [32, 64] by the config"));
}

TEST_F(HfSourceTest, ExtraTensorsAreNamed) {
  WriteTinyHfFolder(MakeTinyModel(), folder_);
  const float bias[4] = {};
  AddTensor("model.layers.0.self_attn.q_proj.bias", {bias, DType::kF32, {4}});
  EXPECT_THAT(Error(), HasSubstr("has model.layers.0.self_attn.q_proj.bias [4], want only the 20"));
}

TEST_F(HfSourceTest, WhatTransformersIgnoresIsIgnored) {
  const TinyModel model = MakeTinyModel();
  WriteTinyHfFolder(model, folder_);
  std::vector<float> embedding = model.weights.at("model.embed_tokens.weight");
  const float buffer[4] = {};
  AddTensor("model.layers.0.self_attn.rotary_emb.inv_freq", {buffer, DType::kF32, {4}});
  AddTensor("lm_head.weight", {embedding.data(), DType::kF32, {263, 32}});
  const auto source = OpenModelSource(folder_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->tensors().size(), 20);
  // But an output layer of its own contradicts the config.
  embedding[5] += 1;
  AddTensor("lm_head.weight", {embedding.data(), DType::kF32, {263, 32}});
  EXPECT_THAT(Error(), HasSubstr("has lm_head.weight [263, 32]"));
}

TEST_F(HfSourceTest, AnUntiedConfigMissesItsOutputLayer) {
  TinyModel model = MakeTinyModel();
  WriteTinyHfFolder(model, folder_);
  model.config.tie_word_embeddings = false;
  Write("config.json", model.config.ToJson());
  EXPECT_THAT(Error(), HasSubstr("without lm_head.weight [263, 32]"));
}

TEST_F(HfSourceTest, ATokenWithoutARowOfTheEmbeddingIsRefused) {
  const TinyModel model = MakeTinyModel();
  WriteTinyHfFolder(model, folder_);
  const Json good = Read("tokenizer.json");
  Json json = good;
  json["model"]["vocab"]["new"] = 263;
  Write("tokenizer.json", JsonText(json));
  EXPECT_THAT(Error(), HasSubstr("the id of token \"new\" is 263, want 0..262"));
  json = good;
  json["added_tokens"][0]["id"] = 300;
  Write("tokenizer.json", JsonText(json));
  EXPECT_THAT(Error(), HasSubstr("the id of token \"<|endoftext|>\" is 300"));
  json = good;
  json["model"]["vocab"]["new"] = -1;
  Write("tokenizer.json", JsonText(json));
  EXPECT_THAT(Error(), HasSubstr("is -1, want 0..262"));
  json = good;
  json.erase("model");
  Write("tokenizer.json", JsonText(json));
  EXPECT_THAT(Error(), HasSubstr("tokenizer.json: has no model.vocab"));
}

TEST_F(HfSourceTest, FilesThatAreNoJsonAreNamed) {
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    WriteTinyHfFolder(MakeTinyModel(), folder_);
    Write(name, "{\"a\":");
    EXPECT_THAT(Error(), HasSubstr(absl::StrCat(name, ": not JSON at byte")));
  }
}

}  // namespace
}  // namespace deltaworks::trainer

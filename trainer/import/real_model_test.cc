// The import of a real model: SmolLM2-135M-Instruct as a Q4_1 GGUF, named by the environment
// variable DELTAWORKS_SMOLLM2_GGUF. The digests of dequantised tensors below were computed by
// gguf-py 0.19 (gguf.dequantize) and, for q and k, the inverse of the converter's permutation.

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/sha256.h"
#include "trainer/formats/gguf.h"
#include "trainer/formats/manifest.h"
#include "trainer/import/import.h"
#include "trainer/model/weights.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class RealModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("DELTAWORKS_SMOLLM2_GGUF");
    ASSERT_NE(path, nullptr) << "DELTAWORKS_SMOLLM2_GGUF is not set, want the path of the GGUF";
    path_ = path;
  }

  std::string Import(DType form) {
    const std::string folder = absl::StrCat(::testing::TempDir(), "/smollm2_", FormName(form));
    std::filesystem::remove_all(folder);
    const absl::Time start = absl::Now();
    const auto result = ImportModel({.source_path = path_,
                                     .output_folder = folder,
                                     .form = form,
                                     .source_name = "HuggingFaceTB/SmolLM2-135M-Instruct"});
    EXPECT_TRUE(result.ok()) << result.status();
    std::cout << "import to " << FormName(form) << " took " << absl::Now() - start << "\n";
    return folder;
  }

  std::string path_;
};

absl::string_view BytesOf(const ConstTensorView& view) {
  return {static_cast<const char*>(view.data), static_cast<size_t>(view.bytes())};
}

TEST_F(RealModelTest, HasTheTensorsThatItIsKnownToHave) {
  const auto file = GgufFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  std::map<std::string, int> count_of;
  for (const GgufTensor& tensor : (*file)->contents().tensors()) {
    ++count_of[std::string(tensor.type->name)];
  }
  EXPECT_THAT(count_of, UnorderedElementsAre(Pair("Q8_0", 1), Pair("Q4_1", 210), Pair("F32", 61)));
}

TEST_F(RealModelTest, ImportsToTheWeightsThatGgufPyComputes) {
  const auto weights = ModelWeights::Open(Import(DType::kF32));
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->tensors().size(), 272);
  EXPECT_EQ((*weights)->manifest().parameters, 134'515'008);
  const std::pair<const char*, const char*> want[] = {
      {"model.embed_tokens.weight",
       "3fd491c8066dd9dc1a2bf6796701526c82817d95c0ecabacdef3013c2b8bbbaa"},
      {"model.norm.weight", "3b87f8e27335e67fc08f159cabfd2d18f205d6c5b225a6f978153552bf01d559"},
      {"model.layers.0.self_attn.q_proj.weight",
       "54b377bbfa2deab945dfdba7fb59e0ca3eb74329358bd1b53b635b3ff37c1a56"},
      {"model.layers.0.self_attn.k_proj.weight",
       "814d239237d0643a10d9468d42e617b687ef032f85ad617389de27cf27f6fd34"},
      {"model.layers.29.self_attn.k_proj.weight",
       "8e99b2450d5f3d53731f52790cc82f80b04341e533306bcfee6669ffa3c79921"},
      {"model.layers.17.self_attn.o_proj.weight",
       "d389c5bb49960e338d8f7932866d9e818c6efe3640de403466ea9436ece1b845"},
      {"model.layers.17.mlp.down_proj.weight",
       "50de9ec0dc8d5e57c885c69de05a1eb4ba2bd832883642b29a6919fb39b4774c"},
      {"model.layers.29.mlp.up_proj.weight",
       "f395fcde6e4387e835c50c3ebce13c030a6be52d18edf22dbd7d229d87fdd790"},
  };
  for (const auto& [name, digest] : want) {
    EXPECT_EQ(Sha256Digest(BytesOf((*weights)->tensor(name))), absl::StrCat("sha256:", digest))
        << name;
  }
}

TEST_F(RealModelTest, ImportsItsConfigAndTokenizer) {
  const std::string folder = Import(DType::kBF16);
  EXPECT_TRUE(VerifyModelFolder(folder).ok());
  const auto weights = ModelWeights::Open(folder);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const ModelConfig& config = (*weights)->config();
  EXPECT_EQ(config.vocab_size, 49152);
  EXPECT_EQ(config.hidden_size, 576);
  EXPECT_EQ(config.intermediate_size, 1536);
  EXPECT_EQ(config.num_hidden_layers, 30);
  EXPECT_EQ(config.num_attention_heads, 9);
  EXPECT_EQ(config.num_key_value_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.max_position_embeddings, 8192);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope_theta, 100000);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));

  const auto tokenizer = ParseJson(*ReadFile(folder + "/tokenizer.json"), "tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)["model"]["vocab"].size(), 49152);
  EXPECT_EQ((*tokenizer)["model"]["merges"].size(), 48900);
  EXPECT_EQ((*tokenizer)["added_tokens"].size(), 17);
  EXPECT_EQ((*tokenizer)["pre_tokenizer"]["pretokenizers"][0]["type"], "Digits");
}

}  // namespace
}  // namespace deltaworks::trainer

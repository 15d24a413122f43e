// A stored model is opened only if its files agree with each other.

#include "trainer/model/weights.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/model/llama_tensors.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

ModelConfig Tiny() {
  return {.vocab_size = 11,
          .hidden_size = 8,
          .intermediate_size = 6,
          .num_hidden_layers = 2,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 2,
          .max_position_embeddings = 32,
          .rms_norm_eps = 1e-5,
          .rope_theta = 1e4,
          .tie_word_embeddings = true};
}

// What a test may lie about.
struct Lies {
  ModelConfig config = Tiny();  // As written to config.json.
  ShapeMap shapes = LlamaTensorShapes(Tiny());
  DType form = DType::kBF16;      // As written to manifest.json.
  DType matrices = DType::kBF16;  // As written to model.safetensors.
  std::string architecture = "llama";
};

std::string NewFolder(const std::string& name, const Lies& lies) {
  const std::string folder = ::testing::TempDir() + "/" + name;
  EXPECT_TRUE(MakeDirectories(folder).ok());
  EXPECT_TRUE(WriteFileAtomically(folder + "/config.json", lies.config.ToJson()).ok());
  // Every tensor reads the same numbers; the largest has 11 x 8 of them.
  const std::vector<float> values(88, 1.5f);
  TensorMap tensors;
  for (const auto& [tensor, shape] : lies.shapes) {
    const DType dtype = StoredDType(lies.matrices, shape);
    tensors[tensor] = ConstTensorView(values.data(), dtype, shape);
  }
  EXPECT_TRUE(WriteFileAtomically(folder + "/model.safetensors",
                                  SerializeSafetensors(tensors, {{"format", "pt"}}))
                  .ok());
  ModelManifest manifest{.source_digest = Sha256Digest(""),
                         .form = lies.form,
                         .architecture = lies.architecture,
                         .parameters = 1};
  for (const char* file : {kConfigFile, kWeightsFile}) {
    auto described = DescribeFile(folder, file);
    EXPECT_TRUE(described.ok()) << described.status();
    manifest.files.push_back(*std::move(described));
  }
  EXPECT_TRUE(WriteFileAtomically(folder + "/manifest.json", manifest.Serialize()).ok());
  return folder;
}

std::string ErrorOf(const std::string& folder) {
  return std::string(ModelWeights::Open(folder).status().message());
}

TEST(ModelWeightsTest, AStoredModelIsOpenedAndMapped) {
  const auto weights = ModelWeights::Open(NewFolder("good", {}));
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->config(), Tiny());
  EXPECT_EQ((*weights)->manifest().form, DType::kBF16);
  EXPECT_EQ((*weights)->tensors().size(), LlamaTensorShapes(Tiny()).size());
  const ConstTensorView& norm = (*weights)->tensor("model.norm.weight");
  EXPECT_EQ(norm.as<const float>()[7], 1.5f);
  EXPECT_EQ((*weights)->tensor("model.embed_tokens.weight").dtype, DType::kBF16);
}

TEST(ModelWeightsTest, TheF32FormIsOpenedToo) {
  Lies lies;
  lies.form = lies.matrices = DType::kF32;
  const auto weights = ModelWeights::Open(NewFolder("f32", lies));
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->tensor("model.embed_tokens.weight").as<const float>()[87], 1.5f);
}

TEST(ModelWeightsTest, AFolderOrFileThatIsMissingIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(ModelWeights::Open(::testing::TempDir() + "/none").status()));
  const std::string folder = NewFolder("missing_file", {});
  std::filesystem::remove(folder + "/model.safetensors");
  EXPECT_TRUE(absl::IsNotFound(ModelWeights::Open(folder).status()));
}

TEST(ModelWeightsTest, AFileOfAnotherSizeThanListedIsRefused) {
  const std::string folder = NewFolder("longer", {});
  std::ofstream(folder + "/model.safetensors", std::ios::app) << "x";
  EXPECT_THAT(ErrorOf(folder), HasSubstr("by the manifest"));
}

TEST(ModelWeightsTest, TensorsThatDisagreeWithTheConfigAreRefused) {
  Lies lies;
  lies.shapes.erase("model.norm.weight");
  EXPECT_THAT(ErrorOf(NewFolder("no_norm", lies)), HasSubstr("without model.norm.weight [8]"));
  lies = Lies();
  lies.config.vocab_size = 12;
  EXPECT_THAT(ErrorOf(NewFolder("vocab", lies)), HasSubstr("has shape [11, 8], want [12, 8]"));
}

TEST(ModelWeightsTest, TensorsThatAreNotOfTheFormAreRefused) {
  Lies lies;
  lies.form = DType::kF32;
  EXPECT_THAT(ErrorOf(NewFolder("form", lies)), HasSubstr("is BF16, want F32 in the form f32"));
}

TEST(ModelWeightsTest, AnotherArchitectureIsRefused) {
  Lies lies;
  lies.architecture = "t5";
  EXPECT_THAT(ErrorOf(NewFolder("t5", lies)), HasSubstr("architecture is t5, want llama"));
}

TEST(ModelWeightsDeathTest, ATensorThatAModelDoesNotHaveIsOurMistake) {
  const auto weights = ModelWeights::Open(NewFolder("good_too", {}));
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_DEATH((void)(*weights)->tensor("lm_head.weight"), "has no tensor lm_head.weight");
}

}  // namespace
}  // namespace deltaworks::trainer

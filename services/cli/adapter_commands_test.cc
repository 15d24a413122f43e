// Downloading and merging: whole folders or none, through cut streams, and the merged weights are
// W + scale B A.

#include <cmath>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/exit_code.h"
#include "services/cli/testing/cli_world.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/formats/safetensors.h"
#include "trainer/import/import.h"
#include "trainer/import/tiny_model.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class AdapterCommandsTest : public ::testing::Test {
 protected:
  AdapterCommandsTest() : world_("adapters") { world_.Fill(); }
  CliWorld world_;
};

TEST_F(AdapterCommandsTest, ADownloadIsAPeftFolder) {
  ASSERT_EQ(world_.Run({"adapter", "download", "notes@champion", "{}/peft"}).code, kExitOk);
  const auto base = trainer::MakeTinyModel().config;
  const auto adapter = trainer::ReadPeftFolder(world_.Path("peft"), trainer::LlamaModules(base));
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  EXPECT_EQ(adapter->config.rank, 2);
}

TEST_F(AdapterCommandsTest, AFolderThatExistsIsLeftAlone) {
  ASSERT_TRUE(MakeDirectories(world_.Path("mine")).ok());
  const CliWorld::Result result = world_.Run({"adapter", "download", "notes", "{}/mine"});
  EXPECT_EQ(result.code, kExitRefused);
  EXPECT_TRUE(fs::is_empty(world_.Path("mine")));
}

TEST_F(AdapterCommandsTest, AFailedDownloadLeavesNothing) {
  world_.registry.PutFiles({{"adapter_config.json", "{}"}});
  const CliWorld::Result result = world_.Run({"adapter", "download", "notes", "{}/half"});
  EXPECT_EQ(result.code, kExitError) << result.err;
  EXPECT_THAT(result.err, HasSubstr("adapter_model.safetensors"));
  for (const auto& entry : fs::directory_iterator(world_.Path(""))) {
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(HasSubstr("half")));
  }
}

TEST_F(AdapterCommandsTest, ACutStreamGoesOnWhereItWas) {
  ASSERT_EQ(world_.Run({"adapter", "download", "notes/1", "{}/whole"}).code, kExitOk);
  const int64_t calls = world_.registry.download_calls();
  world_.registry.CutDownloads(/*after_bytes=*/100, /*count=*/3);
  const CliWorld::Result result = world_.Run({"adapter", "download", "notes/1", "{}/cut"});
  ASSERT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(world_.registry.download_calls() - calls, 2 + 3) << "two files, and three cuts";
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors"}) {
    EXPECT_EQ(*ReadFile(absl::StrCat(world_.Path("cut/"), file)),
              *ReadFile(absl::StrCat(world_.Path("whole/"), file)));
  }
}

TEST_F(AdapterCommandsTest, AModelThatIsNotTheVersionsIsDamaged) {
  world_.registry.PutFiles({{"adapter_config.json", "{}"}, {"adapter_model.safetensors", "other"}});
  const CliWorld::Result result = world_.Run({"adapter", "download", "notes", "{}/other"});
  EXPECT_EQ(result.code, kExitError);
  EXPECT_THAT(result.err, HasSubstr(absl::StrCat("is ", Sha256Digest("other"), ", want sha256:")));
  EXPECT_FALSE(fs::exists(world_.Path("other")));
}

TEST_F(AdapterCommandsTest, AMergeWithoutAHomeSaysWhatToSet) {
  world_.environment.erase("HOME");
  const CliWorld::Result result = world_.Run({"adapter", "merge", "notes/1", "{}/merged"});
  EXPECT_EQ(result.code, kExitWrongUse);
  EXPECT_THAT(result.err, HasSubstr("HOME and DELTAWORKS_HOME are not set"));
  EXPECT_EQ(world_.Run({"adapter", "merge", "notes/1", "{}/merged", "--home", "{}/h"}).code,
            kExitOk);
}

TEST_F(AdapterCommandsTest, AMergedFolderIsTheBaseWithScaleBATimesAdded) {
  const CliWorld::Result result = world_.Run({"adapter", "merge", "notes/1", "{}/merged"});
  ASSERT_EQ(result.code, kExitOk) << result.err;
  ASSERT_EQ(world_.Run({"adapter", "download", "notes/1", "{}/peft"}).code, kExitOk);

  const auto base = trainer::SafetensorsFile::Open(world_.Path("imported/model.safetensors"));
  const auto merged = trainer::SafetensorsFile::Open(world_.Path("merged/model.safetensors"));
  const auto adapter =
      trainer::SafetensorsFile::Open(world_.Path("peft/adapter_model.safetensors"));
  ASSERT_TRUE(base.ok() && merged.ok() && adapter.ok()) << merged.status();
  EXPECT_EQ((*merged)->metadata().at("format"), "pt");
  ASSERT_EQ((*merged)->tensors().size(), (*base)->tensors().size());
  const std::string module = "model.layers.0.self_attn.q_proj";
  const float* a =
      (*adapter)->tensors().at("base_model.model." + module + ".lora_A.weight").as<const float>();
  const float* b =
      (*adapter)->tensors().at("base_model.model." + module + ".lora_B.weight").as<const float>();
  const trainer::ConstTensorView& before = (*base)->tensors().at(module + ".weight");
  const float* w = before.as<const float>();
  const float* got = (*merged)->tensors().at(module + ".weight").as<const float>();
  const int64_t n = before.shape[0], k = before.shape[1];
  const double scale = 16.0 / 2;  // lora_alpha / rank of the world's adapter.
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t column = 0; column < k; ++column) {
      const double sum =
          w[row * k + column] + scale * (b[row * 2] * a[column] + b[row * 2 + 1] * a[k + column]);
      // One rounding of the sum and one of the product, each half a unit of f32 (2^-24).
      ASSERT_NEAR(got[row * k + column], sum, (1 + std::abs(sum)) * 0x1p-22);
    }
  }
}

TEST_F(AdapterCommandsTest, AMergedFolderIsAModelThatCanBeImportedAgain) {
  ASSERT_EQ(world_.Run({"adapter", "merge", "notes/1", "{}/merged"}).code, kExitOk);
  const auto again = trainer::ImportModel({.source_path = world_.Path("merged"),
                                           .output_folder = world_.Path("again"),
                                           .form = trainer::DType::kF32,
                                           .source_name = "merged"});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->config.torch_dtype, "float32");
  EXPECT_EQ(*ReadFile(world_.Path("merged/tokenizer.json")),
            *ReadFile(world_.Path("imported/tokenizer.json")));
  EXPECT_FALSE(fs::exists(world_.Path("merged/adapter")));
}

TEST_F(AdapterCommandsTest, ABaseOfAnotherSourceIsRefusedWithBothDigests) {
  auto base = world_.store.GetBaseModel("tenants/default/baseModels/smollm2");
  ASSERT_TRUE(base.ok());
  const std::string right = base->source_digest();
  base->set_name("tenants/default/baseModels/other");
  base->set_source_digest(Sha256Digest("other"));
  world_.store.PutBaseModel(*base);
  const CliWorld::Result result =
      world_.Run({"adapter", "merge", "notes/1", "{}/merged", "--base_model", "other"});
  EXPECT_EQ(result.code, kExitRefused);
  EXPECT_THAT(result.err, HasSubstr(right));
  EXPECT_THAT(result.err, HasSubstr(Sha256Digest("other")));
  EXPECT_FALSE(fs::exists(world_.Path("merged")));
}

TEST_F(AdapterCommandsTest, AnAliasMovesOnlyIfItsEtagIsStillRight) {
  const CliWorld::Result stale = world_.Run(
      {"adapter", "alias", "set", "notes@champion", "notes/1", "--etag", "of-yesterday"});
  EXPECT_EQ(stale.code, kExitRefused);
  EXPECT_THAT(stale.err, HasSubstr("alias points at"));
}

}  // namespace
}  // namespace deltaworks::services

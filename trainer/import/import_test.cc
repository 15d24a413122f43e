// The whole import: the same weights through every door end in the same bytes, and an import that
// fails, at whatever point, leaves nothing behind.

#include "trainer/import/import.h"

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"
#include "trainer/import/tiny_model.h"
#include "trainer/model/weights.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

class ImportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    place_ = absl::StrCat(::testing::TempDir(), "/import_",
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(place_);
    ASSERT_TRUE(MakeDirectories(place_ + "/out").ok());
  }

  std::string WriteGguf(const GgufBuilder& builder) {
    const std::string path = absl::StrCat(place_, "/model", next_++, ".gguf");
    EXPECT_TRUE(WriteFileAtomically(path, builder.Build()).ok());
    return path;
  }
  std::string WriteHf(const TinyModel& model, const TinyHfOptions& options = {}) {
    const std::string folder = absl::StrCat(place_, "/hf", next_++);
    WriteTinyHfFolder(model, folder, options);
    return folder;
  }

  // Imports to a new folder and returns it.
  std::string Import(const std::string& source, DType form) {
    const std::string folder = absl::StrCat(place_, "/out/", next_++);
    const auto result = ImportModel(
        {.source_path = source, .output_folder = folder, .form = form, .source_name = "org/tiny"});
    EXPECT_TRUE(result.ok()) << result.status();
    return folder;
  }

  // The error of an import, after which nothing may be left.
  absl::Status Fail(const std::string& source, DType form = DType::kBF16) {
    const auto result = ImportModel({.source_path = source,
                                     .output_folder = place_ + "/out/failed",
                                     .form = form,
                                     .source_name = "org/tiny"});
    EXPECT_FALSE(result.ok());
    EXPECT_TRUE(fs::is_empty(place_ + "/out")) << "something was left behind";
    return result.status();
  }

  std::string place_;
  int next_ = 0;
};

std::string Weights(const std::string& folder) { return *ReadFile(folder + "/model.safetensors"); }

ModelManifest Manifest(const std::string& folder) {
  auto manifest = ModelManifest::Read(folder);
  EXPECT_TRUE(manifest.ok()) << manifest.status();
  return *std::move(manifest);
}

TEST_F(ImportTest, AGgufBecomesTheWeightsItWasMadeOf) {
  for (const bool tied : {true, false}) {
    const TinyModel model = MakeTinyModel(tied);
    const std::string folder = Import(WriteGguf(TinyGguf(model)), DType::kF32);
    const auto weights = ModelWeights::Open(folder);
    ASSERT_TRUE(weights.ok()) << weights.status();
    EXPECT_EQ((*weights)->config(), model.config);
    EXPECT_EQ((*weights)->tensors().size(), model.weights.size());
    for (const auto& [name, want] : model.weights) {
      const ConstTensorView& view = (*weights)->tensor(name);
      const float* data = view.as<const float>();
      EXPECT_EQ(std::vector<float>(data, data + view.elements()), want) << name;
    }
  }
}

TEST_F(ImportTest, EveryDoorLeadsToTheSameBytes) {
  const TinyModel model = MakeTinyModel();
  for (const DType form : {DType::kF32, DType::kBF16}) {
    const std::string want = Weights(Import(WriteGguf(TinyGguf(model)), form));
    for (const uint32_t gguf_type : {1u, 30u}) {
      EXPECT_EQ(Weights(Import(WriteGguf(TinyGguf(model, gguf_type)), form)), want) << gguf_type;
    }
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      EXPECT_EQ(Weights(Import(WriteHf(model, {.dtype = dtype}), form)), want) << NameOf(dtype);
      EXPECT_EQ(Weights(Import(WriteHf(model, {.dtype = dtype, .shards = 3}), form)), want);
    }
  }
}

TEST_F(ImportTest, TheManifestSaysWhatIsThere) {
  const TinyModel model = MakeTinyModel();
  const std::string folder = Import(WriteGguf(TinyGguf(model)), DType::kBF16);
  const ModelManifest manifest = Manifest(folder);
  EXPECT_EQ(manifest.form, DType::kBF16);
  EXPECT_EQ(manifest.source_name, "org/tiny");
  EXPECT_EQ(manifest.architecture, "llama");
  int64_t parameters = 0;
  for (const auto& [name, values] : model.weights) parameters += values.size();
  EXPECT_EQ(manifest.parameters, parameters);
  std::vector<std::string> names;
  for (const ManifestFile& file : manifest.files) names.push_back(file.name);
  EXPECT_THAT(names, ElementsAre("config.json", "model.safetensors", "tokenizer.json",
                                 "tokenizer_config.json"));
  EXPECT_TRUE(VerifyModelFolder(folder).ok());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 5);
}

TEST_F(ImportTest, TheSameSourceTwiceGivesTheSameFiles) {
  const std::string source = WriteGguf(TinyGguf(MakeTinyModel()));
  const std::string first = Import(source, DType::kBF16);
  const std::string second = Import(source, DType::kBF16);
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json",
                           "model.safetensors", "manifest.json"}) {
    EXPECT_EQ(*ReadFile(first + "/" + name), *ReadFile(second + "/" + name)) << name;
  }
}

TEST_F(ImportTest, TheSourceDigestNamesTheSourceWhateverTheForm) {
  const TinyModel model = MakeTinyModel();
  const std::string source = WriteGguf(TinyGguf(model));
  const std::string digest = Manifest(Import(source, DType::kBF16)).source_digest;
  EXPECT_EQ(Manifest(Import(source, DType::kF32)).source_digest, digest);
  // Sharded or not is no difference.
  const std::string single = Manifest(Import(WriteHf(model), DType::kBF16)).source_digest;
  const std::string sharded =
      Manifest(Import(WriteHf(model, {.shards = 2}), DType::kBF16)).source_digest;
  EXPECT_EQ(single, sharded);
  // Another type, another weight, another tokenizer is.
  EXPECT_NE(Manifest(Import(WriteGguf(TinyGguf(model, 1)), DType::kBF16)).source_digest, digest);
  TinyModel changed = model;
  changed.weights["model.norm.weight"][3] += 0.5f;
  EXPECT_NE(Manifest(Import(WriteGguf(TinyGguf(changed)), DType::kBF16)).source_digest, digest);
  changed = model;
  changed.chat_template += " ";
  EXPECT_NE(Manifest(Import(WriteGguf(TinyGguf(changed)), DType::kBF16)).source_digest, digest);
}

// Written out once more from source_digest.h, so that the text that is hashed cannot change unseen.
TEST_F(ImportTest, TheSourceDigestIsTheDocumentedOne) {
  const TinyModel model = MakeTinyModel();
  const std::string folder = Import(WriteHf(model), DType::kBF16);
  std::string text = "deltaworks source 1\n";
  for (const auto& [name, values] : model.weights) {
    const bool is_norm = values.size() == 32;
    const bool is_wide = name.find("down_proj") != std::string::npos;
    const int64_t columns = is_wide ? 64 : 32;
    const std::string shape = is_norm ? "32" : absl::StrCat(values.size() / columns, "x", columns);
    absl::StrAppend(&text, "tensor ", name, " F32 ", shape, " ",
                    Sha256Digest(EncodeExactly(values, DType::kF32)), "\n");
  }
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    const std::string bytes = *ReadFile(absl::StrCat(folder, "/", name));
    absl::StrAppend(&text, "file ", name, " ", bytes.size(), "\n", bytes);
  }
  EXPECT_EQ(Manifest(folder).source_digest, Sha256Digest(text));
}

TEST_F(ImportTest, NormWeightsStayF32AndMatricesAreRoundedToNearestEven) {
  TinyModel model = MakeTinyModel();
  GgufBuilder builder = TinyGguf(model);
  const float value = 1.0f + 0x1p-8f + 0x1p-20f;  // Rounds up in bf16.
  for (GgufBuilder::Tensor& tensor : builder.tensors()) {
    if (tensor.name == "output_norm.weight" || tensor.name == "token_embd.weight") {
      std::memcpy(tensor.data.data(), &value, sizeof(value));
    }
  }
  const auto weights = ModelWeights::Open(Import(WriteGguf(builder), DType::kBF16));
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->tensor("model.norm.weight").as<const float>()[0], value);
  EXPECT_EQ(
      static_cast<float>((*weights)->tensor("model.embed_tokens.weight").as<const BFloat16>()[0]),
      1.0f + 0x1p-7f);
}

TEST_F(ImportTest, ProgressReachesItsTotalAndAnErrorFromItEndsTheImport) {
  const std::string source = WriteHf(MakeTinyModel());
  std::vector<ImportProgress> seen;
  const auto record = [&](const ImportProgress& progress) {
    seen.push_back(progress);
    return progress.tensors_done < 5 ? absl::OkStatus() : absl::CancelledError("enough");
  };
  const auto cancelled = ImportModel({.source_path = source,
                                      .output_folder = place_ + "/out/x",
                                      .form = DType::kF32,
                                      .source_name = ""},
                                     record);
  EXPECT_TRUE(absl::IsCancelled(cancelled.status())) << cancelled.status();
  EXPECT_TRUE(fs::is_empty(place_ + "/out"));
  ASSERT_EQ(seen.size(), 6);
  EXPECT_EQ(seen[0].tensors_done, 0);

  ImportProgress last;
  const auto done = ImportModel({.source_path = source,
                                 .output_folder = place_ + "/out/y",
                                 .form = DType::kF32,
                                 .source_name = ""},
                                [&](const ImportProgress& progress) {
                                  last = progress;
                                  return absl::OkStatus();
                                });
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(last.tensors_done, last.tensors_total);
  EXPECT_EQ(last.tensors_total, 20);
  EXPECT_EQ(last.parameters_done, last.parameters_total);
  EXPECT_EQ(last.parameters_total, done->manifest.parameters);
}

TEST_F(ImportTest, AFolderThatIsThereIsRefused) {
  const std::string source = WriteHf(MakeTinyModel());
  const std::string folder = Import(source, DType::kF32);
  const auto again = ImportModel(
      {.source_path = source, .output_folder = folder, .form = DType::kF32, .source_name = ""});
  EXPECT_TRUE(absl::IsAlreadyExists(again.status())) << again.status();
  EXPECT_TRUE(VerifyModelFolder(folder).ok());
}

TEST_F(ImportTest, ASourceThatIsNotThereIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(Fail(place_ + "/nowhere")));
}

TEST_F(ImportTest, AFileThatIsNoModelIsRefused) {
  const std::string path = place_ + "/text";
  ASSERT_TRUE(WriteFileAtomically(path, "hello, world").ok());
  EXPECT_THAT(std::string(Fail(path).message()), HasSubstr("begins with \"hell\", want \"GGUF\""));
}

TEST_F(ImportTest, ATruncatedFileLeavesNothing) {
  const std::string bytes = TinyGguf(MakeTinyModel()).Build();
  const std::string path = place_ + "/cut.gguf";
  for (const size_t size : {size_t{0}, size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    ASSERT_TRUE(WriteFileAtomically(path, bytes.substr(0, size)).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(Fail(path))) << size;
  }
}

TEST_F(ImportTest, AWeightThatIsNoNumberIsNamed) {
  TinyModel model = MakeTinyModel();
  GgufBuilder builder = TinyGguf(model);
  const float values[] = {std::nanf(""), std::numeric_limits<float>::infinity()};
  for (const float value : values) {
    for (GgufBuilder::Tensor& tensor : builder.tensors()) {
      if (tensor.name != "blk.1.ffn_up.weight") continue;
      std::memcpy(tensor.data.data() + (2 * 32 + 5) * sizeof(float), &value, sizeof(value));
    }
    for (const DType form : {DType::kF32, DType::kBF16}) {
      EXPECT_THAT(std::string(Fail(WriteGguf(builder), form).message()),
                  HasSubstr("tensor model.layers.1.mlp.up_proj.weight[2, 5] is "));
    }
  }
}

TEST_F(ImportTest, AWeightThatTheFormCannotHoldIsNamed) {
  GgufBuilder builder = TinyGguf(MakeTinyModel());
  const float value = 3.4e38f;  // The next bf16 is infinity.
  for (GgufBuilder::Tensor& tensor : builder.tensors()) {
    if (tensor.name == "token_embd.weight") {
      std::memcpy(tensor.data.data(), &value, sizeof(value));
    }
  }
  const std::string source = WriteGguf(builder);
  EXPECT_THAT(
      std::string(Fail(source, DType::kBF16).message()),
      HasSubstr("model.embed_tokens.weight[0, 0] is 3.4e+38, want a finite number in BF16"));
  Import(source, DType::kF32);
}

// A limit on the size of files is the full disk that a test can have anywhere: the write fails in
// the middle of the weights.
TEST_F(ImportTest, AWriteThatFailsLeavesNothing) {
  const std::string source = WriteHf(MakeTinyModel());
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit small = before;
  small.rlim_cur = 60'000;
  void (*const handler)(int) = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = Fail(source, DType::kF32);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors.tmp."));
  EXPECT_THAT(std::string(status.message()), HasSubstr("write: File too large"));
}

}  // namespace
}  // namespace deltaworks::trainer

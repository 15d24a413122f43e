// A stored model is only as good as the proof that it is intact: what a manifest says, and what
// VerifyModelFolder finds after a byte was flipped, cut off or lost.

#include "trainer/formats/manifest.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

// A folder with a small and a three-chunk file, and its manifest.
std::string NewFolder(const std::string& name) {
  const std::string folder = ::testing::TempDir() + "/" + name;
  EXPECT_TRUE(MakeDirectories(folder).ok());
  EXPECT_TRUE(WriteFileAtomically(folder + "/config.json", "{}").ok());
  EXPECT_TRUE(
      WriteFileAtomically(folder + "/model.safetensors", std::string(2 * kChunkBytes + 5, 'w'))
          .ok());
  ModelManifest manifest{.source_digest = Sha256Digest("source"),
                         .source_name = "org/model",
                         .form = DType::kF32,
                         .architecture = "llama",
                         .parameters = 7};
  for (const char* file : {"config.json", "model.safetensors"}) {
    auto described = DescribeFile(folder, file);
    EXPECT_TRUE(described.ok()) << described.status();
    manifest.files.push_back(*described);
  }
  EXPECT_TRUE(WriteFileAtomically(folder + "/manifest.json", manifest.Serialize()).ok());
  return folder;
}

TEST(ManifestTest, WhatWasSerializedIsParsed) {
  const std::string folder = NewFolder("round_trip");
  const auto manifest = ModelManifest::Read(folder);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->source_digest, Sha256Digest("source"));
  EXPECT_EQ(manifest->source_name, "org/model");
  EXPECT_EQ(manifest->form, DType::kF32);
  EXPECT_EQ(manifest->architecture, "llama");
  EXPECT_EQ(manifest->parameters, 7);
  ASSERT_EQ(manifest->files.size(), 2);
  EXPECT_EQ(manifest->files[0].digest, Sha256Digest("{}"));
  EXPECT_EQ(manifest->files[1].size_bytes, 2 * kChunkBytes + 5);
  ASSERT_EQ(manifest->files[1].chunk_digests.size(), 3);
  EXPECT_EQ(manifest->files[1].chunk_digests[2], Sha256Digest("wwwww"));
  EXPECT_EQ(manifest->Serialize(), *ReadFile(folder + "/manifest.json"));
  EXPECT_EQ(manifest->Find("config.json"), &manifest->files[0]);
  EXPECT_EQ(manifest->Find("other"), nullptr);
}

TEST(ManifestTest, AnEmptyFileHasNoChunks) {
  ASSERT_TRUE(WriteFileAtomically(::testing::TempDir() + "/nothing", "").ok());
  const auto file = DescribeFile(::testing::TempDir(), "nothing");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->size_bytes, 0);
  EXPECT_TRUE(file->chunk_digests.empty());
  EXPECT_EQ(file->digest, Sha256Digest(""));
}

TEST(ManifestTest, EachWrongFieldIsNamed) {
  const std::string folder = NewFolder("wrong_fields");
  const std::string good = *ReadFile(folder + "/manifest.json");
  const auto error = [&](const std::string& from, const std::string& to) {
    const std::string text = absl::StrReplaceAll(good, {{from, to}});
    EXPECT_NE(text, good) << from;
    const auto result = ModelManifest::Parse(text, "m");
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << from << ": " << result.status();
    return std::string(result.status().message());
  };
  EXPECT_THAT(error("\"format_version\": 1", "\"format_version\": 2"),
              HasSubstr("m: format_version is 2, want 1"));
  EXPECT_THAT(error("\"f32\"", "\"int8\""), HasSubstr("m: form is int8, want bf16 or f32"));
  EXPECT_THAT(error("\"parameters\": 7", "\"parameters\": 0"), HasSubstr("parameters is 0"));
  EXPECT_THAT(error("\"source_digest\": \"sha256:", "\"source_digest\": \"md5:"),
              HasSubstr("source_digest is md5:"));
  EXPECT_THAT(error("\"size_bytes\": 2", "\"size_bytes\": -2"), HasSubstr("size_bytes is -2"));
  EXPECT_THAT(error("\"size_bytes\": 8388613", "\"size_bytes\": 8388608"),
              HasSubstr("model.safetensors: chunk_digests is of length 3, want a list of 2"));
  EXPECT_THAT(error("\"model.safetensors\"", "\"../escape\""), HasSubstr("want a plain file name"));
  EXPECT_THAT(error("\"model.safetensors\"", "\"manifest.json\""), HasSubstr("plain file name"));
  EXPECT_THAT(error("\"model.safetensors\"", "\"config.json\""),
              HasSubstr("want sorted by name, each once"));
  EXPECT_THAT(error("\"files\":", "\"fails\":"), HasSubstr("m: files is absent"));
  EXPECT_THAT(error("\"architecture\"", "\"arch\""), HasSubstr("architecture is absent"));
}

TEST(VerifyModelFolderTest, AnIntactFolderPasses) {
  EXPECT_TRUE(VerifyModelFolder(NewFolder("intact")).ok());
}

TEST(VerifyModelFolderTest, AFlippedByteIsFoundWithItsChunk) {
  const std::string folder = NewFolder("flipped");
  const std::string path = folder + "/model.safetensors";
  std::string bytes = *ReadFile(path);
  bytes[kChunkBytes + 1] = 'x';
  ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
  const absl::Status status = VerifyModelFolder(folder);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model.safetensors: chunk 1 (bytes 4194304..8388608) is sha256:"));
}

TEST(VerifyModelFolderTest, ACutOrMissingFileIsFound) {
  const std::string folder = NewFolder("cut");
  std::filesystem::resize_file(folder + "/model.safetensors", 100);
  absl::Status status = VerifyModelFolder(folder);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("has 100 bytes, want 8388613"));
  std::filesystem::remove(folder + "/config.json");
  status = VerifyModelFolder(folder);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("config.json: is absent"));
}

TEST(VerifyModelFolderTest, AFolderWithoutManifestIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(VerifyModelFolder(::testing::TempDir() + "/no_such_folder")));
}

}  // namespace
}  // namespace deltaworks::trainer

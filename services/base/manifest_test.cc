#include "services/base/manifest.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

v1::Manifest Small() {
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::ADAPTER);
  *manifest.add_files() = DescribeBytes("b.safetensors", "weights");
  *manifest.add_files() = DescribeBytes("a.json", "{}");
  return manifest;
}

TEST(ManifestTest, EqualContentGivesEqualBytesWhateverTheOrder) {
  v1::Manifest reversed = Small();
  reversed.mutable_files()->SwapElements(0, 1);
  EXPECT_EQ(*SerializeManifest(Small()), *SerializeManifest(reversed));
}

TEST(ManifestTest, WhatWasSerialisedIsParsedAndFilesAreFound) {
  const auto parsed = ParseManifest(*SerializeManifest(Small()), "blob");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_NE(FindFile(*parsed, "a.json"), nullptr);
  EXPECT_EQ(FindFile(*parsed, "a.json")->digest(), Sha256Digest("{}"));
  EXPECT_EQ(FindFile(*parsed, "c"), nullptr);
}

TEST(ManifestTest, AFileIsDescribedByItsChunks) {
  const std::string data(static_cast<size_t>(2 * kChunkBytes) + 1, 'x');
  const v1::ManifestFile file = DescribeBytes("f", data);
  EXPECT_EQ(file.size_bytes(), data.size());
  EXPECT_EQ(file.digest(), Sha256Digest(data));
  ASSERT_EQ(file.chunk_digests_size(), 3);
  EXPECT_EQ(file.chunk_digests(1), Sha256Digest(data.substr(0, kChunkBytes)));
  EXPECT_EQ(file.chunk_digests(2), Sha256Digest("x"));
  EXPECT_EQ(DescribeBytes("f", "").chunk_digests_size(), 0);
  EXPECT_EQ(DescribeBytes("f", data.substr(0, kChunkBytes)).chunk_digests_size(), 1);

  const std::string path = ::testing::TempDir() + "/described";
  ASSERT_TRUE(WriteFileAtomically(path, data).ok());
  EXPECT_EQ(DescribeFile("f", path)->SerializeAsString(), file.SerializeAsString());
}

TEST(ManifestTest, PiecesOfAnySizeGiveTheSameDigests) {
  const std::string data(static_cast<size_t>(kChunkBytes) + 77, 'y');
  ChunkDigester digester;
  for (size_t i = 0; i < data.size(); i += 1'000'003) {
    digester.Update(absl::string_view(data).substr(i, 1'000'003));
  }
  v1::ManifestFile file;
  digester.Finish(file);
  EXPECT_EQ(file.digest(), DescribeBytes("", data).digest());
  EXPECT_EQ(file.chunk_digests(0), DescribeBytes("", data).chunk_digests(0));
}

TEST(ManifestTest, LiesAreRefusedByName) {
  const auto refused = [](v1::Manifest manifest, const char* what) {
    const auto parsed = ParseManifest(manifest.SerializeAsString(), "blob");
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << what;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(what));
  };
  v1::Manifest sorted = *ParseManifest(*SerializeManifest(Small()), "blob");
  v1::Manifest bad = sorted;
  bad.mutable_files()->SwapElements(0, 1);
  refused(bad, "want them sorted");
  bad = sorted;
  bad.mutable_files(0)->set_path("../../etc/passwd");
  refused(bad, "want a relative path");
  bad = sorted;
  bad.mutable_files(0)->set_path("/etc/passwd");
  refused(bad, "want a relative path");
  bad = sorted;
  bad.mutable_files(0)->set_size_bytes(-1);
  refused(bad, "size_bytes is -1");
  bad = sorted;
  bad.mutable_files(0)->set_size_bytes(int64_t{1} << 62);
  refused(bad, "chunk_digests is of length 1");
  bad = sorted;
  bad.mutable_files(0)->set_digest("sha256:short");
  refused(bad, "digest is");
  bad = sorted;
  bad.set_format_version(2);
  refused(bad, "format_version is 2");
  bad = sorted;
  bad.clear_files();
  refused(bad, "files is of length 0");
  bad = sorted;
  bad.GetReflection()->MutableUnknownFields(&bad)->AddVarint(99, 1);
  refused(bad, "fields of a newer version");
}

TEST(ManifestTest, OtherBytesAreNoManifest) {
  for (const std::string& bytes :
       {std::string(), std::string("{\"text\": \"a line\"}\n"), std::string(1000, '\xff')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseManifest(bytes, "blob").status()));
  }
}

}  // namespace
}  // namespace deltaworks::services

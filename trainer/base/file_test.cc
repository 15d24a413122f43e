#include "trainer/base/file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks {
namespace {

using ::testing::HasSubstr;

std::string TempPath(const std::string& name) { return ::testing::TempDir() + "/" + name; }

int64_t FilesIn(const std::string& folder) {
  int64_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

TEST(FileTest, WhatWasWrittenIsReadAndMapped) {
  const std::string path = TempPath("whole");
  ASSERT_TRUE(WriteFileAtomically(path, "some bytes").ok());
  EXPECT_EQ(*ReadFile(path), "some bytes");
  auto mapped = MappedFile::Open(path);
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_EQ((*mapped)->bytes(), "some bytes");
}

TEST(FileTest, AnEmptyFileMapsToNothing) {
  const std::string path = TempPath("empty");
  ASSERT_TRUE(WriteFileAtomically(path, "").ok());
  auto mapped = MappedFile::Open(path);
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_TRUE((*mapped)->bytes().empty());
}

TEST(FileTest, AMissingFileIsNamed) {
  const auto result = ReadFile(TempPath("missing"));
  EXPECT_TRUE(absl::IsNotFound(result.status())) << result.status();
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("missing: open: No such file"));
  EXPECT_TRUE(absl::IsNotFound(MappedFile::Open(TempPath("missing")).status()));
}

TEST(FileTest, AFolderIsNotMapped) {
  EXPECT_TRUE(absl::IsInvalidArgument(MappedFile::Open(::testing::TempDir()).status()));
}

TEST(FileTest, AFileAboveTheLimitIsNotRead) {
  const std::string path = TempPath("large");
  ASSERT_TRUE(WriteFileAtomically(path, std::string(100'000, 'x')).ok());
  EXPECT_TRUE(ReadFile(path, 100'000).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(ReadFile(path, 99'999).status()));
}

TEST(AtomicFileTest, AnUncommittedFileLeavesTheOldOneAndNoTrace) {
  const std::string folder = TempPath("atomic");
  ASSERT_TRUE(MakeDirectories(folder).ok());
  const std::string path = folder + "/file";
  ASSERT_TRUE(WriteFileAtomically(path, "old").ok());
  {
    auto file = AtomicFile::Create(path);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE((*file)->Append("new").ok());
  }
  EXPECT_EQ(*ReadFile(path), "old");
  EXPECT_EQ(FilesIn(folder), 1);
}

TEST(AtomicFileTest, ACommittedFileTakesNoMoreBytes) {
  auto file = AtomicFile::Create(TempPath("committed"));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Append("bytes").ok());
  ASSERT_TRUE((*file)->Commit().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition((*file)->Append("more")));
  EXPECT_TRUE(absl::IsFailedPrecondition((*file)->Commit()));
  EXPECT_EQ(*ReadFile(TempPath("committed")), "bytes");
}

TEST(AtomicFileTest, AFullDiskIsResourceExhausted) {
  // /dev/full fails every write with ENOSPC.
  EXPECT_TRUE(absl::IsResourceExhausted(ErrnoStatus(ENOSPC, "/dev/full", "write")));
}

}  // namespace
}  // namespace deltaworks

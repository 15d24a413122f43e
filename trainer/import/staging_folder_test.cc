#include "trainer/import/staging_folder.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

std::string NewPlace(const std::string& name) {
  const std::string place = ::testing::TempDir() + "/" + name;
  fs::remove_all(place);
  return place;
}

TEST(StagingFolderTest, WhatWasWrittenAppearsWithTheCommit) {
  const std::string place = NewPlace("committed");
  auto staging = StagingFolder::Create(place + "/deep/model/");
  ASSERT_TRUE(staging.ok()) << staging.status();
  ASSERT_TRUE(WriteFileAtomically((*staging)->path() + "/file", "bytes").ok());
  EXPECT_FALSE(fs::exists(place + "/deep/model"));
  ASSERT_TRUE((*staging)->Commit().ok());
  staging->reset();
  EXPECT_EQ(*ReadFile(place + "/deep/model/file"), "bytes");
  EXPECT_EQ(std::distance(fs::directory_iterator(place + "/deep"), {}), 1);
}

TEST(StagingFolderTest, WithoutCommitNothingIsLeft) {
  const std::string place = NewPlace("uncommitted");
  {
    auto staging = StagingFolder::Create(place + "/model");
    ASSERT_TRUE(staging.ok()) << staging.status();
    ASSERT_TRUE(WriteFileAtomically((*staging)->path() + "/file", "bytes").ok());
  }
  EXPECT_TRUE(fs::is_empty(place));
}

TEST(StagingFolderTest, ATargetThatIsThereIsNotTouched) {
  const std::string place = NewPlace("there");
  ASSERT_TRUE(MakeDirectories(place + "/model").ok());
  const auto staging = StagingFolder::Create(place + "/model");
  EXPECT_TRUE(absl::IsAlreadyExists(staging.status())) << staging.status();
  EXPECT_EQ(std::distance(fs::directory_iterator(place), {}), 1);
}

TEST(StagingFolderTest, TheSecondOfTwoAtOnceFails) {
  const std::string place = NewPlace("race");
  auto first = StagingFolder::Create(place + "/model");
  auto second = StagingFolder::Create(place + "/model");
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE(WriteFileAtomically((*first)->path() + "/file", "first").ok());
  ASSERT_TRUE(WriteFileAtomically((*second)->path() + "/file", "second").ok());
  ASSERT_TRUE((*first)->Commit().ok());
  EXPECT_TRUE(absl::IsAlreadyExists((*second)->Commit()));
  second->reset();
  EXPECT_EQ(*ReadFile(place + "/model/file"), "first");
  EXPECT_EQ(std::distance(fs::directory_iterator(place), {}), 1);
}

TEST(StagingFolderTest, APlaceThatIsNoFolderNameIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(StagingFolder::Create("").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(StagingFolder::Create("//").status()));
  const std::string place = NewPlace("file");
  ASSERT_TRUE(WriteFileAtomically(place, "").ok());
  EXPECT_THAT(std::string(StagingFolder::Create(place + "/model").status().message()),
              HasSubstr(place));
}

}  // namespace
}  // namespace deltaworks::trainer

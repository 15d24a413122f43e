#include "services/store/local_blob_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "services/store/blob_store_contract_test.h"

namespace deltaworks::services {
namespace {

std::string Folder() { return ::testing::TempDir() + "/local_blobs"; }

std::unique_ptr<BlobStore> MakeLocal(bool fresh) {
  if (fresh) std::filesystem::remove_all(Folder());
  auto store = LocalBlobStore::Open(Folder());
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

INSTANTIATE_TEST_SUITE_P(Local, BlobStoreContractTest, ::testing::Values(&MakeLocal));

TEST(LocalBlobStoreTest, ObjectsAreReadOnlyFilesByDigestAndGeneration) {
  std::filesystem::remove_all(Folder());
  auto store = *LocalBlobStore::Open(Folder());
  const ObjectKey key{Sha256Digest("x"), 7};
  ASSERT_TRUE(store->AppendStaged("up-1", 0, "x").ok());
  ASSERT_TRUE(store->Promote("up-1", key).ok());
  const std::string hex = key.digest.substr(7);
  const std::string path = Folder() + "/objects/" + hex.substr(0, 2) + "/" + hex + ".7";
  EXPECT_EQ(store->PathOf(key), path);
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0444u);
}

TEST(LocalBlobStoreTest, WhatCouldNotBePromotedStaysWritable) {
  std::filesystem::remove_all(Folder());
  auto store = *LocalBlobStore::Open(Folder());
  const ObjectKey key{Sha256Digest("xy"), 7};
  ASSERT_TRUE(store->AppendStaged("up-1", 0, "xy").ok());
  ASSERT_TRUE(MakeDirectories(store->PathOf(key)).ok());  // In the way.
  EXPECT_FALSE(store->Promote("up-1", key).ok());
  struct stat info;
  ASSERT_EQ(stat((Folder() + "/staged/up-1").c_str(), &info), 0);
  EXPECT_NE(info.st_mode & S_IWUSR, 0u);
}

TEST(LocalBlobStoreTest, FilesOfSomebodyElseAreLeftAlone) {
  std::filesystem::remove_all(Folder());
  auto store = *LocalBlobStore::Open(Folder());
  ASSERT_TRUE(MakeDirectories(Folder() + "/objects/zz").ok());
  ASSERT_TRUE(WriteFileAtomically(Folder() + "/objects/zz/notes.txt", "mine").ok());
  EXPECT_TRUE(store->List()->empty());
}

TEST(LocalBlobStoreTest, AFolderThatCannotBeMadeIsNamed) {
  const std::string file = ::testing::TempDir() + "/a_file";
  ASSERT_TRUE(WriteFileAtomically(file, "").ok());
  const auto store = LocalBlobStore::Open(file + "/blobs");
  EXPECT_FALSE(store.ok());
  EXPECT_THAT(std::string(store.status().message()), ::testing::HasSubstr("a_file"));
}

}  // namespace
}  // namespace deltaworks::services

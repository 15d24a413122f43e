// What every BlobStore must do, whatever it is made of. An implementation's test includes this and
// instantiates:
//
//   INSTANTIATE_TEST_SUITE_P(Local, BlobStoreContractTest, ::testing::Values(&MakeLocal));

#ifndef DELTAWORKS_SERVICES_STORE_BLOB_STORE_CONTRACT_TEST_H_
#define DELTAWORKS_SERVICES_STORE_BLOB_STORE_CONTRACT_TEST_H_

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/store/blob_store.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {

// Opens the store again and again over the same place; `fresh` empties it first.
using BlobStoreMaker = std::unique_ptr<BlobStore> (*)(bool fresh);

class BlobStoreContractTest : public ::testing::TestWithParam<BlobStoreMaker> {
 protected:
  BlobStoreContractTest() : store_(GetParam()(/*fresh=*/true)) {}
  void Reopen() {
    store_.reset();
    store_ = GetParam()(/*fresh=*/false);
  }
  std::string Content(const absl::StatusOr<std::unique_ptr<BlobReader>>& reader) {
    if (!reader.ok()) return reader.status().ToString();
    std::string data(static_cast<size_t>((*reader)->size()) + 10, '\0');
    const auto count = (*reader)->Read(0, absl::MakeSpan(data));
    data.resize(static_cast<size_t>(count.ok() ? *count : 0));
    return data;
  }
  ObjectKey Put(const std::string& data, int64_t generation = 1) {
    const ObjectKey key{Sha256Digest(data), generation};
    EXPECT_TRUE(store_->AppendStaged("up-1", 0, data).ok());
    EXPECT_TRUE(store_->SyncStaged("up-1").ok());
    EXPECT_TRUE(store_->Promote("up-1", key).ok());
    return key;
  }
  std::unique_ptr<BlobStore> store_;
};

TEST_P(BlobStoreContractTest, PiecesAddUpAndSurviveAReopen) {
  ASSERT_TRUE(store_->AppendStaged("up-1", 0, "first ").ok());
  ASSERT_TRUE(store_->AppendStaged("up-1", 6, "second").ok());
  ASSERT_TRUE(store_->SyncStaged("up-1").ok());
  Reopen();
  EXPECT_EQ(Content(store_->OpenStaged("up-1")), "first second");
  EXPECT_THAT(*store_->ListStaged(), ::testing::ElementsAre("up-1"));
}

TEST_P(BlobStoreContractTest, AppendingEarlierDropsWhatLaysBeyond) {
  ASSERT_TRUE(store_->AppendStaged("up-1", 0, "abcdef").ok());
  ASSERT_TRUE(store_->AppendStaged("up-1", 2, "X").ok());
  EXPECT_EQ(Content(store_->OpenStaged("up-1")), "abX");
  EXPECT_TRUE(absl::IsDataLoss(store_->AppendStaged("up-1", 9, "gap")));
}

TEST_P(BlobStoreContractTest, APromotedObjectIsThereAndItsStagedBytesAreNot) {
  const ObjectKey key = Put("the bytes");
  Reopen();
  EXPECT_EQ(Content(store_->Open(key)), "the bytes");
  EXPECT_TRUE(absl::IsNotFound(store_->OpenStaged("up-1").status()));
  EXPECT_THAT(*store_->List(), ::testing::ElementsAre(key));
  EXPECT_EQ(*DigestOf(**store_->Open(key)), key.digest);
}

TEST_P(BlobStoreContractTest, GenerationsOfOneDigestAreDifferentObjects) {
  const ObjectKey old_key = Put("same bytes", 1);
  const ObjectKey new_key = Put("same bytes", 2);
  ASSERT_TRUE(store_->Remove(old_key).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Open(old_key).status()));
  EXPECT_EQ(Content(store_->Open(new_key)), "same bytes");
}

TEST_P(BlobStoreContractTest, RemovingWhatIsNotThereSucceeds) {
  EXPECT_TRUE(store_->Remove({Sha256Digest("absent"), 1}).ok());
  EXPECT_TRUE(store_->DropStaged("absent").ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Open({Sha256Digest("absent"), 1}).status()));
}

TEST_P(BlobStoreContractTest, AReaderGoesOnWhileItsObjectIsRemoved) {
  const ObjectKey key = Put("still read");
  auto reader = store_->Open(key);
  ASSERT_TRUE(store_->Remove(key).ok());
  EXPECT_EQ(Content(reader), "still read");
  const auto mapped = (*reader)->Map();
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_EQ(*mapped, "still read");
}

TEST_P(BlobStoreContractTest, RangesAreReadAndEndAtTheEnd) {
  const ObjectKey key = Put("0123456789");
  auto reader = store_->Open(key);
  ASSERT_TRUE(reader.ok());
  std::string data(4, '\0');
  EXPECT_EQ(*(*reader)->Read(8, absl::MakeSpan(data)), 2);
  EXPECT_EQ(data.substr(0, 2), "89");
  EXPECT_EQ(*(*reader)->Read(10, absl::MakeSpan(data)), 0);
  EXPECT_EQ(*(*reader)->Map(), "0123456789");
}

TEST_P(BlobStoreContractTest, AnEmptyObjectIsAnObject) {
  const ObjectKey key = Put("");
  EXPECT_EQ((*store_->Open(key))->size(), 0);
  EXPECT_EQ(*(*store_->Open(key))->Map(), "");
}

TEST_P(BlobStoreContractTest, AFileIsMovedInAndAnObjectLinkedOut) {
  const std::string path = ::testing::TempDir() + "/contract_file";
  ASSERT_TRUE(WriteFileAtomically(path, "from a file").ok());
  ASSERT_TRUE(store_->StageFile("in-1", path).ok());
  const ObjectKey key{Sha256Digest("from a file"), 1};
  ASSERT_TRUE(store_->Promote("in-1", key).ok());
  ASSERT_TRUE(store_->Link(key, path).ok());
  EXPECT_EQ(*ReadFile(path), "from a file");
}

TEST_P(BlobStoreContractTest, SomeRoomIsLeft) { EXPECT_GT(*store_->AvailableBytes(), 0); }

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_BLOB_STORE_CONTRACT_TEST_H_

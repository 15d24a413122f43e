// A transfer is right if, whatever is cut, delayed or damaged on the way, the bytes that end up on
// the other side are the right ones or there is an error, and nothing verified is sent twice.

#include "services/clients/blob_transfer.h"

#include <sys/stat.h>

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/log.h"
#include "services/base/manifest.h"
#include "services/clients/fake_store_client.h"
#include "trainer/base/file.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {
namespace {

using ::testing::Ge;
using ::testing::HasSubstr;

std::string Noise(size_t size) {
  std::string data(size, '\0');
  uint64_t state = 1;
  for (char& byte : data) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(state >> 56);
  }
  return data;
}

class BlobTransferTest : public ::testing::Test {
 protected:
  BlobTransferTest() {
    options_.retry.sleep = [this](absl::Duration wait) { now_ += wait; };
    options_.retry.monotonic = [this] { return now_; };
    std::filesystem::remove_all(folder_);
    EXPECT_TRUE(MakeDirectories(folder_).ok());
    SetLogWriter([](absl::string_view) {});
  }
  ~BlobTransferTest() override { SetLogWriter(nullptr); }

  // What lies in the file, or "" if it is not there.
  std::string Content(const std::string& path) {
    const auto text = ReadFile(path);
    return text.ok() ? *text : "";
  }

  FakeStoreClient store_;
  TransferOptions options_;
  absl::Duration now_ = absl::ZeroDuration();
  const std::string folder_ = ::testing::TempDir() + "/transfer";
  const std::string path_ = folder_ + "/file";
  const std::string data_ = Noise(static_cast<size_t>(2 * kChunkBytes) + 12345);
  const BlobAccess access_{"t", ""};
};

// ---- Up ----

TEST_F(BlobTransferTest, AFileIsUploadedAndDescribed) {
  ASSERT_TRUE(WriteFileAtomically(path_, data_).ok());
  const auto file = UploadFile(store_, "t", "weights", path_, options_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->SerializeAsString(), DescribeBytes("weights", data_).SerializeAsString());
  EXPECT_TRUE(store_.HasBlob(file->digest()));
}

TEST_F(BlobTransferTest, AnEmptyBlobIsUploadedToo) {
  const auto file = UploadBytes(store_, "t", "empty", "", options_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(store_.HasBlob(Sha256Digest("")));
}

TEST_F(BlobTransferTest, WhatTheTenantHasIsNotSentAgain) {
  store_.AddBlob("t", data_);
  ASSERT_TRUE(UploadBytes(store_, "t", "f", data_, options_).ok());
  EXPECT_EQ(store_.CallCount("WriteUpload"), 0);
}

TEST_F(BlobTransferTest, AnUploadCutAgainAndAgainGoesOnWhereItWas) {
  store_.Fail("WriteUpload", absl::UnavailableError("cut"), 5);
  const auto file = UploadBytes(store_, "t", "f", data_, options_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(store_.CallCount("WriteUpload"), 6);
  EXPECT_EQ(now_, absl::ZeroDuration()) << "each stream moved on, so nothing had to be waited for";
}

TEST_F(BlobTransferTest, AStoreThatStaysAwayEndsTheUploadInBoundedTime) {
  store_.Fail("WriteUpload", absl::AbortedError("another writer is active"), 1'000'000);
  const auto file = UploadBytes(store_, "t", "f", "", options_);
  EXPECT_TRUE(absl::IsAborted(file.status())) << file.status();
  EXPECT_THAT(now_, Ge(absl::Seconds(25)));
}

TEST_F(BlobTransferTest, AnErrorThatIsFinalEndsTheUploadAtOnce) {
  store_.Fail("WriteUpload", absl::ResourceExhaustedError("disk is full"));
  const auto file = UploadBytes(store_, "t", "f", data_, options_);
  EXPECT_TRUE(absl::IsResourceExhausted(file.status()));
  EXPECT_EQ(store_.CallCount("WriteUpload"), 1);
}

TEST_F(BlobTransferTest, AnUploadIsCancelledThroughItsProgress) {
  options_.progress = [](int64_t done, int64_t) {
    return done > 0 ? absl::CancelledError("enough") : absl::OkStatus();
  };
  EXPECT_TRUE(absl::IsCancelled(UploadBytes(store_, "t", "f", data_, options_).status()));
}

TEST_F(BlobTransferTest, AManifestIsUploadedUnderItsDigest) {
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::DATASET);
  *manifest.add_files() = *UploadBytes(store_, "t", "data.jsonl", "{}", options_);
  const auto digest = UploadManifest(store_, "t", manifest, options_);
  ASSERT_TRUE(digest.ok()) << digest.status();
  v1::GetManifestRequest request;
  request.set_parent("tenants/t");
  request.set_digest(*digest);
  EXPECT_EQ(store_.GetManifest(request)->SerializeAsString(), manifest.SerializeAsString());
}

// ---- Down ----

TEST_F(BlobTransferTest, ADownloadIsWholeAndReadOnly) {
  store_.AddBlob("t", data_);
  const absl::Status status =
      DownloadFile(store_, access_, DescribeBytes("f", data_), path_, options_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Content(path_), data_);
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0444u);
  EXPECT_FALSE(std::filesystem::exists(path_ + ".part"));
}

TEST_F(BlobTransferTest, ADownloadCutAfterEachChunkGoesOn) {
  store_.AddBlob("t", data_);
  store_.Fail("ReadBlob", absl::UnavailableError("cut"), 3);
  ASSERT_TRUE(DownloadFile(store_, access_, DescribeBytes("f", data_), path_, options_).ok());
  EXPECT_EQ(Content(path_), data_);
}

TEST_F(BlobTransferTest, WhatAnEarlierDownloadLeftIsVerifiedAndKept) {
  store_.AddBlob("t", data_);
  std::string left = data_.substr(0, static_cast<size_t>(kChunkBytes) + 100);
  ASSERT_TRUE(WriteFileAtomically(path_ + ".part", left).ok());
  int64_t first = -1;
  options_.progress = [&](int64_t done, int64_t) {
    if (first < 0) first = done;
    return absl::OkStatus();
  };
  ASSERT_TRUE(DownloadFile(store_, access_, DescribeBytes("f", data_), path_, options_).ok());
  EXPECT_EQ(first, kChunkBytes);
  EXPECT_EQ(Content(path_), data_);
}

TEST_F(BlobTransferTest, AFlippedByteInWhatWasLeftIsFetchedAgain) {
  store_.AddBlob("t", data_);
  std::string left = data_.substr(0, static_cast<size_t>(2 * kChunkBytes));
  left[static_cast<size_t>(kChunkBytes) + 7] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(path_ + ".part", left).ok());
  ASSERT_TRUE(DownloadFile(store_, access_, DescribeBytes("f", data_), path_, options_).ok());
  EXPECT_EQ(Content(path_), data_);
}

TEST_F(BlobTransferTest, AFlippedByteInTheStoreIsNamedReportedAndNeverWritten) {
  const std::string digest = store_.AddBlob("t", data_);
  store_.FlipByte(digest, kChunkBytes + 7);
  const absl::Status status =
      DownloadFile(store_, access_, DescribeBytes("weights", data_), path_, options_);
  ASSERT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("weights (" + digest + "): chunk at 4194304"));
  EXPECT_EQ(store_.CallCount("ReportCorruptBlob"), 1);
  EXPECT_FALSE(store_.HasBlob(digest)) << "counts as absent once confirmed";
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_EQ(Content(path_ + ".part"), data_.substr(0, static_cast<size_t>(kChunkBytes)));
}

TEST_F(BlobTransferTest, MoreBytesThanTheManifestSaysAreRefused) {
  store_.AddBlob("t", data_);
  v1::ManifestFile file = DescribeBytes("f", data_.substr(0, static_cast<size_t>(kChunkBytes)));
  file.set_digest(Sha256Digest(data_));
  EXPECT_FALSE(DownloadFile(store_, access_, file, path_, options_).ok());
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(BlobTransferTest, FilesThatAreThereAreNotFetchedAgain) {
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::ADAPTER);
  *manifest.add_files() = *UploadBytes(store_, "t", "a", "bytes of a", options_);
  *manifest.add_files() = *UploadBytes(store_, "t", "sub/b", "bytes of b", options_);
  ASSERT_TRUE(DownloadFiles(store_, access_, manifest, folder_, options_).ok());
  EXPECT_EQ(Content(folder_ + "/sub/b"), "bytes of b");
  const int64_t reads = store_.CallCount("ReadBlob");
  ASSERT_TRUE(DownloadFiles(store_, access_, manifest, folder_, options_).ok());
  EXPECT_EQ(store_.CallCount("ReadBlob"), reads);
}

TEST_F(BlobTransferTest, APathOutsideTheFolderIsRefused) {
  v1::Manifest manifest;
  *manifest.add_files() = DescribeBytes("../escaped", "x");
  EXPECT_TRUE(absl::IsInvalidArgument(
      DownloadFiles(store_, access_, manifest, folder_ + "/inner", options_)));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/escaped"));
}

TEST_F(BlobTransferTest, BytesInMemoryAreCancelledThroughTheProgress) {
  const std::string digest = store_.AddBlob("t", data_);
  options_.progress = [](int64_t done, int64_t) {
    return done > 0 ? absl::CancelledError("enough") : absl::OkStatus();
  };
  const auto bytes = DownloadBytes(store_, {"t", ""}, digest, 1 << 30, options_);
  EXPECT_TRUE(absl::IsCancelled(bytes.status())) << bytes.status();
}

TEST_F(BlobTransferTest, AStoreThatIsAwayIsWaitedForOnlyWhileTheTransferIsWanted) {
  const std::string digest = store_.AddBlob("t", "");  // No piece, and so no progress.
  for (const bool cancelled : {false, true}) {
    store_.Fail("ReadBlob", absl::UnavailableError("away"), 1);
    TransferOptions options = CancelledBy([cancelled] { return cancelled; });
    int waits = 0;
    options.retry.sleep = [&waits](absl::Duration) { ++waits; };
    const auto bytes = DownloadBytes(store_, access_, digest, 1 << 30, options);
    EXPECT_EQ(absl::IsUnavailable(bytes.status()), cancelled) << bytes.status();
    EXPECT_EQ(waits, cancelled ? 0 : 1);
    store_.Fail("ReadBlob", absl::OkStatus(), 1);
  }
}

TEST_F(BlobTransferTest, BytesInMemoryAreVerifiedAndBounded) {
  const std::string digest = store_.AddBlob("t", data_);
  EXPECT_EQ(*DownloadBytes(store_, access_, digest, 1 << 30, options_), data_);
  EXPECT_TRUE(
      absl::IsResourceExhausted(DownloadBytes(store_, access_, digest, 1000, options_).status()));
  store_.FlipByte(digest, 0);
  EXPECT_TRUE(absl::IsDataLoss(DownloadBytes(store_, access_, digest, 1 << 30, options_).status()));
}

}  // namespace
}  // namespace deltaworks::services

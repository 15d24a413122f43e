// A base is fetched once per node, and no byte of it is used that does not match its digest.

#include "services/clients/base_cache.h"

#include <sys/stat.h>

#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/manifest.h"
#include "services/clients/fake_base.h"
#include "services/clients/fake_store_client.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const BlobAccess kAccess = {"t", "tenants/t/jobs/j"};
const auto kNever = [] { return false; };

class BaseCacheTest : public ::testing::Test {
 protected:
  BaseCacheTest() {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    folder_ = absl::StrCat(::testing::TempDir(), "/cache_", name);
  }

  absl::StatusOr<std::string> Ensure(BaseCache& cache) {
    return cache.Ensure(kAccess, base_.manifest_digest, kNever);
  }
  void ExpectFetched(int64_t bytes) const {
    EXPECT_THAT(metrics_.Text(),
                HasSubstr(absl::StrCat("deltaworks_base_cache_fetched_bytes_total ", bytes, "\n")));
  }
  static std::string Contents(const std::string& path) {
    const auto read = ReadFile(path);
    return read.ok() ? *read : read.status().ToString();
  }

  Metrics metrics_{"worker"};
  FakeStoreClient store_;
  const FakeBase base_ = AddFakeBase(store_, "t");
  const int64_t all_bytes_ = base_.manifest_bytes + base_.file_bytes;
  std::string folder_;
};

TEST_F(BaseCacheTest, ABaseIsFetchedWholeAndReadOnly) {
  BaseCache cache(folder_, store_, metrics_);
  EXPECT_TRUE(cache.List().empty());
  const auto base = Ensure(cache);
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(Contents(*base + "/model.safetensors"), base_.weights);
  EXPECT_EQ(Contents(*base + "/config.json"), "{}");
  struct stat info;
  ASSERT_EQ(stat((*base + "/model.safetensors").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0444);
  EXPECT_THAT(cache.List(), ElementsAre(base_.manifest_digest));
  ExpectFetched(all_bytes_);
}

TEST_F(BaseCacheTest, WhatIsThereIsNotFetchedAgain) {
  BaseCache cache(folder_, store_, metrics_);
  ASSERT_TRUE(Ensure(cache).ok());
  const int64_t reads = store_.CallCount("ReadBlob");
  ASSERT_TRUE(Ensure(cache).ok());
  EXPECT_EQ(store_.CallCount("ReadBlob"), reads);
  // Another process compares the files with the manifest, and fetches no more than that.
  BaseCache other(folder_, store_, metrics_);
  ASSERT_TRUE(Ensure(other).ok());
  EXPECT_EQ(store_.CallCount("ReadBlob"), reads + 1);
  ExpectFetched(all_bytes_ + base_.manifest_bytes);
}

TEST_F(BaseCacheTest, AnInterruptedFetchGoesOnAndCountsWhatWasReceivedOnly) {
  const std::string part = absl::StrCat(
      folder_, "/bases/", base_.manifest_digest.substr(std::string("sha256:").size()), ".part");
  ASSERT_TRUE(MakeDirectories(part).ok());
  ASSERT_TRUE(WriteFileAtomically(part + "/config.json", "{}").ok());
  ASSERT_TRUE(WriteFileAtomically(part + "/model.safetensors.part",
                                  base_.weights.substr(0, static_cast<size_t>(kChunkBytes)))
                  .ok());
  BaseCache cache(folder_, store_, metrics_);
  const auto base = Ensure(cache);
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(Contents(*base + "/model.safetensors"), base_.weights);
  ExpectFetched(all_bytes_ - 2 - kChunkBytes);
}

TEST_F(BaseCacheTest, ADamagedChunkInTheCacheIsFoundAndFetchedAgain) {
  {
    BaseCache cache(folder_, store_, metrics_);
    ASSERT_TRUE(Ensure(cache).ok());
    std::string damaged = base_.weights;
    damaged[static_cast<size_t>(kChunkBytes) + 7] ^= 1;
    ASSERT_TRUE(WriteFileAtomically(*Ensure(cache) + "/model.safetensors", damaged).ok());
  }
  BaseCache cache(folder_, store_, metrics_);
  const auto base = Ensure(cache);
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(Contents(*base + "/model.safetensors"), base_.weights);
  EXPECT_THAT(metrics_.Text(), HasSubstr("deltaworks_base_cache_corrupt_files_total 1\n"));
}

TEST_F(BaseCacheTest, ATruncatedOrMissingFileIsFetchedAgain) {
  {
    BaseCache cache(folder_, store_, metrics_);
    const auto base = Ensure(cache);
    ASSERT_TRUE(base.ok());
    ASSERT_TRUE(
        WriteFileAtomically(*base + "/model.safetensors", base_.weights.substr(0, 999)).ok());
    ASSERT_EQ(std::remove((*base + "/config.json").c_str()), 0);
  }
  BaseCache cache(folder_, store_, metrics_);
  const auto base = Ensure(cache);
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(Contents(*base + "/model.safetensors"), base_.weights);
  EXPECT_EQ(Contents(*base + "/config.json"), "{}");
}

TEST_F(BaseCacheTest, AChunkThatIsWrongInTheStoreIsNamedAndNothingAppears) {
  store_.FlipByte(base_.weights_digest, kChunkBytes + 5);
  BaseCache cache(folder_, store_, metrics_);
  const absl::Status status = Ensure(cache).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("model.safetensors"), HasSubstr(absl::StrCat(kChunkBytes))));
  EXPECT_TRUE(cache.List().empty());
  EXPECT_EQ(store_.CallCount("ReportCorruptBlob"), 1);
  // The store dropped it. Once it is there again, the fetch goes on from the chunks that were
  // right.
  store_.AddBlob("t", base_.weights);
  const auto base = Ensure(cache);
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(Contents(*base + "/model.safetensors"), base_.weights);
}

TEST_F(BaseCacheTest, TwoWorkersOfANodeFetchABaseOnce) {
  BaseCache one(folder_, store_, metrics_), two(folder_, store_, metrics_);
  absl::Status first, second;
  std::thread a([&] { first = Ensure(one).status(); });
  std::thread b([&] { second = Ensure(two).status(); });
  a.join();
  b.join();
  EXPECT_TRUE(first.ok()) << first;
  EXPECT_TRUE(second.ok()) << second;
  // Each reads the manifest; the two files came once.
  EXPECT_EQ(store_.CallCount("ReadBlob"), 4);
}

TEST_F(BaseCacheTest, AFetchThatIsNoLongerWantedEnds) {
  BaseCache cache(folder_, store_, metrics_);
  const auto status = cache.Ensure(kAccess, base_.manifest_digest, [] { return true; }).status();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_TRUE(cache.List().empty());
}

TEST_F(BaseCacheTest, AtMostAThousandBasesAreListed) {
  BaseCache cache(folder_, store_, metrics_);
  for (int i = 0; i < 1'001; ++i) {
    ASSERT_TRUE(MakeDirectories(absl::StrFormat("%s/bases/%064x", folder_, i)).ok());
    if (i == 999) {
      EXPECT_EQ(cache.List().size(), 1'000u);
    }
  }
  EXPECT_EQ(cache.List().size(), 1'000u);
}

}  // namespace
}  // namespace deltaworks::services

// A model is loaded once, kept while it is needed, and dropped for room when it is not.

#include "services/inference/model_cache.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/metrics.h"
#include "services/inference/metrics.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

using Cache = ModelCache<std::string>;

bool Never() { return false; }

class ModelCacheTest : public ::testing::Test {
 protected:
  // A load of 10 bytes whose value is its key.
  Cache::Load LoadOf(const std::string& key) {
    return [this, key](const Cache::Room& room) -> absl::StatusOr<Cache::Pointer> {
      ++loads_;
      if (absl::Status status = room(10); !status.ok()) return status;
      return std::make_shared<std::string>(key);
    };
  }
  absl::StatusOr<Cache::Pointer> Get(const std::string& key) {
    return cache_.Get(key, Never, LoadOf(key));
  }

  Metrics metrics_{"test"};
  InferenceMetrics inference_{metrics_};
  Cache cache_{"things",
               "--bytes_max",
               30,
               inference_.adapter_bytes,
               inference_.adapter_loads,
               inference_.evictions};
  std::atomic<int> loads_ = 0;
};

TEST_F(ModelCacheTest, TheLongestUnusedIsDroppedForRoom) {
  for (const char* key : {"a", "b", "c", "a", "d"}) ASSERT_TRUE(Get(key).ok()) << key;
  EXPECT_EQ(loads_, 4);
  EXPECT_NE(cache_.Find("a"), nullptr);
  EXPECT_EQ(cache_.Find("b"), nullptr);
  EXPECT_NE(cache_.Find("c"), nullptr);
}

TEST_F(ModelCacheTest, WhatSomebodyHoldsIsNotDropped) {
  std::vector<Cache::Pointer> held;
  for (const char* key : {"a", "b", "c"}) held.push_back(*Get(key));
  const absl::Status status = Get("d").status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(status.message(),
            "d needs 10 bytes, things in use take 30, want at most --bytes_max = 30 together");
  held.erase(held.begin() + 1);
  EXPECT_TRUE(Get("d").ok());
  EXPECT_EQ(cache_.Find("b"), nullptr);
  cache_.DropIdle();
  EXPECT_EQ(cache_.Find("d"), nullptr);
  EXPECT_NE(cache_.Find("a"), nullptr);
}

TEST_F(ModelCacheTest, AnErrorIsNotKeptAndTakesNoRoom) {
  const auto failing = [](const Cache::Room& room) -> absl::StatusOr<Cache::Pointer> {
    static_cast<void>(room(30));
    return absl::DataLossError("damaged");
  };
  EXPECT_TRUE(absl::IsDataLoss(cache_.Get("a", Never, failing).status()));
  std::vector<Cache::Pointer> held;
  for (const char* key : {"a", "b", "c"}) held.push_back(*Get(key));
  EXPECT_EQ(loads_, 3);
}

TEST_F(ModelCacheTest, ThoseWhoWaitLoadThemselvesIfTheFirstCancels) {
  std::atomic<bool> loading = false, cancelled = false;
  std::thread first([&] {
    const auto cancelling = [&](const Cache::Room&) -> absl::StatusOr<Cache::Pointer> {
      loading = true;
      while (!cancelled) std::this_thread::yield();
      return absl::CancelledError("gone");
    };
    EXPECT_TRUE(absl::IsCancelled(cache_.Get("a", Never, cancelling).status()));
  });
  while (!loading) std::this_thread::yield();
  // One who waits may go away by himself.
  EXPECT_TRUE(absl::IsCancelled(cache_
                                    .Get(
                                        "a", [] { return true; }, LoadOf("a"))
                                    .status()));
  EXPECT_EQ(loads_, 0);
  std::thread second([&] { EXPECT_TRUE(Get("a").ok()); });
  cancelled = true;
  first.join();
  second.join();
  EXPECT_EQ(loads_, 1);
}

}  // namespace
}  // namespace deltaworks::services

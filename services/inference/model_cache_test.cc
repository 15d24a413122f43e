// A model is loaded once, kept while it is needed, and dropped for room when it is not.

#include "services/inference/model_cache.h"

#include <prometheus/gauge.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
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
    return cache_.Get(key, "ours", Never, LoadOf(key));
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
  EXPECT_TRUE(absl::IsDataLoss(cache_.Get("a", "ours", Never, failing).status()));
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
    EXPECT_TRUE(absl::IsCancelled(cache_.Get("a", "ours", Never, cancelling).status()));
  });
  while (!loading) std::this_thread::yield();
  // One who waits may go away by himself.
  const auto gone = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(cache_.Get("a", "ours", gone, LoadOf("a")).status()));
  EXPECT_EQ(loads_, 0);
  std::thread second([&] { EXPECT_TRUE(Get("a").ok()); });
  cancelled = true;
  first.join();
  second.join();
  EXPECT_EQ(loads_, 1);
}

TEST_F(ModelCacheTest, AnErrorIsForThoseOfTheSameResource) {
  std::atomic<bool> loading = false;
  std::atomic<int> waiting = 0;
  const auto failing = [&](const Cache::Room&) -> absl::StatusOr<Cache::Pointer> {
    loading = true;
    while (waiting < 2) std::this_thread::yield();
    return absl::PermissionDeniedError("not to acme");
  };
  std::thread first([&] {
    EXPECT_TRUE(absl::IsPermissionDenied(cache_.Get("a", "acme's", Never, failing).status()));
  });
  while (!loading) std::this_thread::yield();
  // Asked by those who wait only.
  const auto counting = [&](bool* asked) {
    return [&waiting, asked] {
      if (!std::exchange(*asked, true)) ++waiting;
      return false;
    };
  };
  bool same_asked = false, other_asked = false;
  std::thread same([&] {
    const auto got = cache_.Get("a", "acme's", counting(&same_asked), LoadOf("a"));
    EXPECT_TRUE(absl::IsPermissionDenied(got.status())) << got.status();
  });
  const auto other = cache_.Get("a", "globex's", counting(&other_asked), LoadOf("a"));
  EXPECT_TRUE(other.ok()) << other.status();
  first.join();
  same.join();
  EXPECT_EQ(loads_, 1);
}

TEST_F(ModelCacheTest, RoomThatALoadGivesBackIsThereForOthers) {
  const auto shrinking = [](const Cache::Room& room) -> absl::StatusOr<Cache::Pointer> {
    for (const int64_t bytes : {30, -20}) {
      if (absl::Status status = room(bytes); !status.ok()) return status;
    }
    return std::make_shared<std::string>("a");
  };
  std::vector<Cache::Pointer> held = {*cache_.Get("a", "ours", Never, shrinking)};
  for (const char* key : {"b", "c"}) held.push_back(*Get(key));
  EXPECT_EQ(inference_.adapter_bytes.Value(), 30);
  EXPECT_TRUE(absl::IsResourceExhausted(Get("d").status()));
}

}  // namespace
}  // namespace deltaworks::services

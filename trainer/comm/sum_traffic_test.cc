// The streams of an ordered sum, without a network: bytes are carried from rank to rank in runs of
// any length and in any order, so windows fill, wrap and empty at every place.

#include "trainer/comm/sum_traffic.h"

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/comm/shard.h"

namespace deltaworks::trainer {
namespace {

// A gang in one process; between every two ranks bytes wait in no network at all.
class SumTrafficTest : public ::testing::Test {
 protected:
  void Begin(int size, int64_t count) {
    want_.assign(count, 0);
    ranks_.clear();
    data_.clear();
    windows_.clear();
    for (int rank = 0; rank < size; ++rank) {
      std::vector<float>& data = data_.emplace_back(count);
      for (int64_t i = 0; i < count; ++i) {
        data[i] = static_cast<float>(random_() % 1000) * (i % 7 == 0 ? 1e7f : 1e-3f);
        want_[i] = rank == 0 ? data[i] : want_[i] + data[i];
      }
    }
    for (int rank = 0; rank < size; ++rank) {
      windows_.emplace_back(SumTraffic::WindowFloats(count, size, rank));
      ranks_.push_back(std::make_unique<SumTraffic>(data_[rank].data(), count, size, rank,
                                                    windows_[rank].data()));
    }
  }

  // Carries up to `bytes_max` bytes from one rank to another. Returns how many.
  int64_t Carry(int from, int to, int64_t bytes_max) {
    const auto source = ranks_[from]->ToSend(to);
    const auto target = ranks_[to]->ToReceive(from);
    const int64_t bytes = std::min<int64_t>(
        {static_cast<int64_t>(source.size()), static_cast<int64_t>(target.size()), bytes_max});
    if (bytes == 0) return 0;
    std::memcpy(target.data(), source.data(), bytes);
    ranks_[from]->Sent(to, bytes);
    ranks_[to]->Received(from, bytes);
    return bytes;
  }

  bool AllDone() const {
    for (int from = 0; from < ranks_.size(); ++from) {
      for (int to = 0; to < ranks_.size(); ++to) {
        if (from != to && !ranks_[from]->Done(to)) return false;
      }
    }
    return true;
  }

  void ExpectTheSumEverywhere() const {
    for (const std::vector<float>& data : data_) {
      ASSERT_EQ(std::memcmp(data.data(), want_.data(), want_.size() * sizeof(float)), 0);
    }
  }

  static constexpr uint64_t kSeed = 20261127;
  std::mt19937_64 random_{kSeed};
  std::vector<float> want_;
  std::vector<std::vector<float>> data_;
  std::vector<std::vector<float>> windows_;
  std::vector<std::unique_ptr<SumTraffic>> ranks_;
};

TEST_F(SumTrafficTest, RunsOfAnyLengthInAnyOrderGiveTheSameSum) {
  constexpr int64_t kLengths[] = {1, 7, 4096, 100'000, 1 << 20};
  for (const int size : {2, 3, 5}) {
    // More than a window for each rank, and not a multiple of anything.
    for (const int64_t count : {int64_t{1}, int64_t{17}, int64_t{1'700'001}}) {
      Begin(size, count);
      int64_t idle = 0;
      while (!AllDone()) {
        const int from = static_cast<int>(random_() % size);
        const int to = static_cast<int>(random_() % size);
        if (from == to) continue;
        const int64_t length = count < 100 ? 1 + random_() % 7 : kLengths[2 + random_() % 3] + 1;
        idle = Carry(from, to, length) > 0 ? 0 : idle + 1;
        ASSERT_LT(idle, 10'000) << "nothing moves: " << size << " ranks, " << count << " floats";
      }
      ExpectTheSumEverywhere();
    }
  }
}

TEST_F(SumTrafficTest, AFastPeerWaitsForASlowOneWithoutOverrunningItsWindow) {
  constexpr int64_t kCount = 3'000'000;
  Begin(3, kCount);
  int64_t carried = 0;
  while (const int64_t bytes = Carry(1, 0, kCount)) carried += bytes;
  // Rank 0 holds one window of rank 1's part, and no more until rank 2 sends its own.
  EXPECT_EQ(carried, SumTraffic::WindowFloats(kCount, 3, 0) / 2 * sizeof(float));
  EXPECT_LT(carried, ShardOf(kCount, 3, 0).count() * sizeof(float));
  EXPECT_TRUE(ranks_[0]->ToReceive(1).empty());
  EXPECT_GT(Carry(2, 0, 1 << 20), 0);
  EXPECT_FALSE(ranks_[0]->ToReceive(1).empty());
}

TEST_F(SumTrafficTest, WindowsStayUnderTheirBoundForAnyGang) {
  for (const int size : {2, 3, 16, 255, 1024}) {
    const int64_t floats = SumTraffic::WindowFloats(int64_t{1} << 34, size, 0);
    EXPECT_GT(floats, 0);
    EXPECT_LE(floats, 16 << 20) << size;
  }
  EXPECT_EQ(SumTraffic::WindowFloats(0, 4, 0), 0);
}

TEST(ShardTest, ShardsCoverEveryElementOnceAndNoneIsLongerThanTheFirst) {
  for (const int size : {1, 2, 3, 7, 1024}) {
    for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{15}, int64_t{16}, int64_t{17},
                                int64_t{1000}, int64_t{1} << 34}) {
      int64_t end = 0;
      for (int owner = 0; owner < size; ++owner) {
        const Shard shard = ShardOf(count, size, owner);
        EXPECT_EQ(shard.begin, end);
        EXPECT_GE(shard.count(), 0);
        EXPECT_LE(shard.count(), ShardOf(count, size, 0).count());
        end = shard.end;
      }
      EXPECT_EQ(end, count);
    }
  }
}

}  // namespace
}  // namespace deltaworks::trainer

// What communicator.h promises, of every implementation: ranks are processes, one, two and four of
// them. Random numbers come from one seed, which is printed; DELTAWORKS_COMM_SEED sets it.

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <list>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/comm/communicator.h"
#include "trainer/comm/monotonic.h"
#include "trainer/comm/testing/meeting.h"
#include "trainer/comm/testing/rank_process.h"
#include "trainer/comm/testing/use_test_nccl.h"

namespace deltaworks::trainer {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ContainsRegex;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Lt;
using ::testing::StartsWith;

constexpr int kSizes[] = {1, 2, 4};
constexpr absl::Duration kLong = absl::Seconds(40);
constexpr absl::Duration kSoon = absl::Seconds(10);  // "Within seconds", on a busy machine.

uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* given = std::getenv("DELTAWORKS_COMM_SEED");
    const uint64_t chosen =
        given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
    std::printf("DELTAWORKS_COMM_SEED=%llu\n", static_cast<unsigned long long>(chosen));
    return chosen;
  }();
  return seed;
}

// Of magnitudes so different that another order of adding gives another sum.
std::vector<float> Numbers(int64_t count, int rank) {
  std::mt19937_64 random(Seed() + rank);
  std::vector<float> numbers(count);
  for (float& each : numbers) {
    const uint64_t bits = random();
    each = std::ldexp(static_cast<float>(static_cast<int32_t>(bits)), static_cast<int>(bits >> 60));
  }
  return numbers;
}

std::vector<float> PlainSum(int64_t count, const std::vector<int>& ranks) {
  std::vector<float> sum = Numbers(count, ranks[0]);
  for (size_t i = 1; i < ranks.size(); ++i) {
    const std::vector<float> part = Numbers(count, ranks[i]);
    for (int64_t j = 0; j < count; ++j) sum[j] += part[j];
  }
  return sum;
}

std::vector<int> FirstRanks(int size) {
  std::vector<int> ranks(size);
  for (int rank = 0; rank < size; ++rank) ranks[rank] = rank;
  return ranks;
}

bool SameBytes(const float* a, const float* b, int64_t count) {
  return count == 0 || std::memcmp(a, b, count * sizeof(float)) == 0;
}

std::string Said(const absl::Status& status) {
  return status.ok() ? "OK" : std::string(status.ToString());
}

// Waits until the process's first thread sleeps, which it does when it waits for a peer.
void WaitUntilFirstThreadSleeps() {
  const std::string path = absl::StrCat("/proc/self/task/", getpid(), "/stat");
  std::string state;
  while (state != "S") {
    std::ifstream file(path);
    std::string pid, name;
    file >> pid >> name >> state;
    std::this_thread::yield();
  }
}

using Body = std::function<std::string(Communicator& communicator, Link& parent)>;

class CommunicatorContractTest : public ::testing::TestWithParam<CommunicatorKind> {
 protected:
  // Before it is forked.
  CommunicatorContractTest() {
    Seed();
    UseTestNccl();
  }

  // Starts a process for one rank of `meeting`.
  void Start(Meeting& meeting, int rank, const Body& body, absl::Duration timeout = kLong) {
    processes_.emplace_back([&meeting, rank, &body, timeout](Link& parent) -> std::string {
      auto member = meeting.Join(rank, timeout);
      if (!member.ok()) return Said(member.status());
      return body((*member)->communicator(), parent);
    });
  }

  // Runs `body` on `size` ranks and returns what each said last.
  std::vector<std::string> RunGang(int size, const Body& body, absl::Duration timeout = kLong) {
    Meeting meeting(GetParam(), size);
    processes_.clear();
    for (int rank = 0; rank < size; ++rank) Start(meeting, rank, body, timeout);
    return HearAll();
  }

  std::vector<std::string> HearAll() {
    std::vector<std::string> said;
    for (RankProcess& each : processes_) said.push_back(each.link().Hear());
    return said;
  }

  Link& link(int rank) { return std::next(processes_.begin(), rank)->link(); }

  std::list<RankProcess> processes_;
};

TEST_P(CommunicatorContractTest, EveryRankHasTheSumInRankOrderForOddCounts) {
  static constexpr int64_t kCounts[] = {0, 1, 2, 3, 5, 1'000'003};
  for (const int size : kSizes) {
    const auto said = RunGang(size, [size](Communicator& communicator, Link&) -> std::string {
      if (communicator.size() != size) return "wrong size";
      for (const int64_t count : kCounts) {
        std::vector<float> data = Numbers(count, communicator.rank());
        const absl::Status status = communicator.OrderedSum(data.data(), count);
        if (!status.ok()) return Said(status);
        const std::vector<float> want = PlainSum(count, FirstRanks(size));
        if (!SameBytes(data.data(), want.data(), count)) {
          return absl::StrCat("another sum of ", count);
        }
      }
      return "OK";
    });
    EXPECT_THAT(said, Each("OK")) << size << " ranks";
  }
  // Were the order of adding without effect, the test would show nothing.
  EXPECT_FALSE(
      SameBytes(PlainSum(1000, {0, 1, 2, 3}).data(), PlainSum(1000, {3, 2, 1, 0}).data(), 1000));
}

TEST_P(CommunicatorContractTest, SpecialValuesStayInTheirElement) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kTiny = std::numeric_limits<float>::denorm_min();
  constexpr int kElements = 8;
  constexpr int64_t kRepeats = 1001;
  const float of_rank[4][kElements] = {{1, -0.0f, kInf, kInf, kTiny, -0.0f, 3e38f, 2},
                                       {2, -0.0f, 1, -kInf, kTiny, 0.0f, 3e38f, 2},
                                       {kNan, -0.0f, 1, 1, kTiny, -0.0f, -3e38f, 2},
                                       {4, -0.0f, 1, 1, -kTiny, -0.0f, -3e38f, 2}};
  const float want[kElements] = {kNan, -0.0f, kInf, kNan, 2 * kTiny, 0.0f, kInf, 8};
  const auto said = RunGang(4, [&](Communicator& communicator, Link&) -> std::string {
    std::vector<float> data(kElements * kRepeats);
    for (int64_t i = 0; i < data.size(); ++i) data[i] = of_rank[communicator.rank()][i % kElements];
    const absl::Status status = communicator.OrderedSum(data.data(), data.size());
    if (!status.ok()) return Said(status);
    for (int64_t i = 0; i < data.size(); ++i) {
      const float expected = want[i % kElements];
      const bool same =
          std::isnan(expected) ? std::isnan(data[i]) : SameBytes(&data[i], &expected, 1);
      if (!same) return absl::StrCat("element ", i, " is ", data[i], ", want ", expected);
    }
    return "OK";
  });
  EXPECT_THAT(said, Each("OK"));
}

TEST_P(CommunicatorContractTest, DelaysDoNotChangeAByte) {
  constexpr int64_t kCount = 200'003;
  constexpr int kRounds = 4;
  for (const int size : {2, 4}) {
    SharedArray<float> sums(kCount * size * kRounds);
    const auto said = RunGang(size, [&](Communicator& communicator, Link&) -> std::string {
      std::mt19937_64 random(Seed() + 100 * communicator.rank());
      for (int round = 0; round < kRounds; ++round) {
        // Not to wait for anything: to come at another moment in each round.
        absl::SleepFor(absl::Microseconds(random() % 5000));
        float* const sum = sums.data() + (round * size + communicator.rank()) * kCount;
        const std::vector<float> numbers = Numbers(kCount, communicator.rank());
        std::memcpy(sum, numbers.data(), kCount * sizeof(float));
        const absl::Status status = communicator.OrderedSum(sum, kCount);
        if (!status.ok()) return Said(status);
      }
      return "OK";
    });
    EXPECT_THAT(said, Each("OK"));
    for (int each = 1; each < size * kRounds; ++each) {
      EXPECT_TRUE(SameBytes(sums.data(), sums.data() + each * kCount, kCount))
          << "rank " << each % size << ", round " << each / size << ", seed " << Seed();
    }
  }
}

TEST_P(CommunicatorContractTest, EveryRootCanBroadcastBetweenNothingAndTenMegabytes) {
  static constexpr int64_t kSizesInBytes[] = {0, 1, 63, 64, 65, 100'003, 10'000'000};
  for (const int size : kSizes) {
    const auto said = RunGang(size, [size](Communicator& communicator, Link&) -> std::string {
      for (int root = 0; root < size; ++root) {
        for (const int64_t bytes : kSizesInBytes) {
          std::string want(bytes, '\0');
          for (int64_t i = 0; i < bytes; ++i) want[i] = static_cast<char>(i * 7 + root + bytes);
          std::string data = communicator.rank() == root ? want : std::string(bytes, '?');
          const absl::Status status = communicator.Broadcast(data.data(), bytes, root);
          if (!status.ok()) return Said(status);
          if (data != want) return absl::StrCat("other bytes from root ", root, " of ", bytes);
        }
      }
      return "OK";
    });
    EXPECT_THAT(said, Each("OK")) << size << " ranks";
  }
}

TEST_P(CommunicatorContractTest, OneRankIsTheIdentity) {
  const auto said = RunGang(1, [](Communicator& communicator, Link&) -> std::string {
    const std::vector<float> before = Numbers(1001, 0);
    std::vector<float> data = before;
    absl::Status status = communicator.OrderedSum(data.data(), data.size());
    status.Update(communicator.Broadcast(data.data(), 4004, 0));
    status.Update(communicator.Barrier());
    if (!SameBytes(data.data(), before.data(), data.size())) return "other bytes";
    if (!absl::IsInvalidArgument(communicator.Broadcast(data.data(), 4, 1))) return "root 1 of 1";
    communicator.Abort();
    return absl::StrCat(Said(status), ", then ", Said(communicator.Barrier()));
  });
  EXPECT_THAT(said, ElementsAre(StartsWith("OK, then ABORTED: rank 0 of 1")));
}

TEST_P(CommunicatorContractTest, ABarrierHoldsUntilTheLastHasCome) {
  constexpr int kRounds = 50;
  SharedArray<std::atomic<int>> rounds(4);
  const auto said = RunGang(4, [&](Communicator& communicator, Link&) -> std::string {
    for (int round = 1; round <= kRounds; ++round) {
      rounds.data()[communicator.rank()] = round;
      if (absl::Status status = communicator.Barrier(); !status.ok()) return Said(status);
      for (int rank = 0; rank < 4; ++rank) {
        if (rounds.data()[rank] < round) return absl::StrCat("rank ", rank, " was left behind");
      }
    }
    return "OK";
  });
  EXPECT_THAT(said, Each("OK"));
}

TEST_P(CommunicatorContractTest, AnArgumentOutOfBoundsSendsNothingAndHarmsNobody) {
  const auto said = RunGang(2, [](Communicator& communicator, Link&) -> std::string {
    float data[1] = {1};
    if (communicator.rank() == 0) {
      const absl::Status all[] = {communicator.OrderedSum(data, -1),
                                  communicator.OrderedSum(data, Communicator::kBytesMax / 4 + 1),
                                  communicator.Broadcast(data, -1, 0),
                                  communicator.Broadcast(data, 4, 2),
                                  communicator.Broadcast(data, 4, -1)};
      for (const absl::Status& each : all) {
        if (!absl::IsInvalidArgument(each)) return Said(each);
      }
    }
    return Said(communicator.OrderedSum(data, 1));
  });
  EXPECT_THAT(said, Each("OK"));
}

// One rank does `odd` where the others do `even`: what each of four ranks hears.
Body OddOneOut(int odd_rank, const std::function<absl::Status(Communicator&)>& even,
               const std::function<absl::Status(Communicator&)>& odd) {
  return [=](Communicator& communicator, Link&) {
    const absl::Status status =
        communicator.rank() == odd_rank ? odd(communicator) : even(communicator);
    const absl::Status again = communicator.Barrier();
    return again == status ? Said(status) : absl::StrCat("the next call says ", Said(again));
  };
}

TEST_P(CommunicatorContractTest, AnotherCountIsInvalidOnEveryRank) {
  std::vector<float> data(100'001);
  const auto sum_of = [&](int64_t count) {
    return [&data, count](Communicator& communicator) {
      return communicator.OrderedSum(data.data(), count);
    };
  };
  for (const int64_t other : {0, 100'001}) {
    const auto said = RunGang(4, OddOneOut(2, sum_of(100'000), sum_of(other)));
    for (const int rank : {0, 1, 3}) {
      EXPECT_THAT(said[rank],
                  StartsWith(absl::StrCat("INVALID_ARGUMENT: rank ", rank, " of 4: sum 1 of 100000",
                                          " floats: rank 2 has sum 1 of ", other, " floats")));
    }
    EXPECT_THAT(said[2], StartsWith(absl::StrCat("INVALID_ARGUMENT: rank 2 of 4: sum 1 of ", other,
                                                 " floats: rank 0 has sum 1 of 100000")));
  }
}

TEST_P(CommunicatorContractTest, AnotherRootIsInvalidOnEveryRank) {
  char data[100] = {};
  const auto from = [&](int root) {
    return [&data, root](Communicator& communicator) {
      return communicator.Broadcast(data, sizeof(data), root);
    };
  };
  const auto said = RunGang(4, OddOneOut(3, from(0), from(3)));
  EXPECT_THAT(said, Each(AllOf(StartsWith("INVALID_ARGUMENT"), HasSubstr("from rank 0"),
                               HasSubstr("from rank 3"))));
}

TEST_P(CommunicatorContractTest, AnotherOperationIsAFailedPreconditionOnEveryRank) {
  std::vector<float> data(1000);
  const auto sum = [&](Communicator& communicator) {
    return communicator.OrderedSum(data.data(), data.size());
  };
  const auto broadcast = [&](Communicator& communicator) {
    return communicator.Broadcast(data.data(), data.size(), 0);
  };
  const auto barrier = [](Communicator& communicator) { return communicator.Barrier(); };
  for (const auto& [even, odd] : std::vector<std::pair<std::function<absl::Status(Communicator&)>,
                                                       std::function<absl::Status(Communicator&)>>>{
           {sum, broadcast}, {broadcast, barrier}, {barrier, sum}}) {
    const auto said = RunGang(4, OddOneOut(0, even, odd));
    EXPECT_THAT(said, Each(AllOf(StartsWith("FAILED_PRECONDITION: rank "), HasSubstr(" is at "),
                                 HasSubstr(", want "))));
  }
}

TEST_P(CommunicatorContractTest, ARankThatSkippedACallIsNoticed) {
  const auto said = RunGang(2, [](Communicator& communicator, Link&) {
    absl::Status status = communicator.Barrier();
    float data[4] = {};
    if (communicator.rank() == 0) status.Update(communicator.OrderedSum(data, 4));
    status.Update(communicator.Barrier());
    return Said(status);
  });
  EXPECT_THAT(said[0], AllOf(StartsWith("FAILED_PRECONDITION: rank 0 of 2: sum 2 of 4 floats"),
                             HasSubstr("rank 1 is at barrier 2")));
  EXPECT_THAT(said[1], AllOf(StartsWith("FAILED_PRECONDITION: rank 1 of 2: barrier 2"),
                             HasSubstr("rank 0 is at sum 2 of 4 floats")));
}

TEST_P(CommunicatorContractTest, AKilledRankIsAnErrorOfTheOthersWhoMeetAgainWithANewOne) {
  constexpr int64_t kCount = 4'000'000;
  constexpr int kVictim = 2;
  constexpr int kRoundsMax = 1000;
  Meeting first(GetParam(), 4);
  Meeting second(GetParam(), 4);
  // The victim's data is where this process can see that a sum is under way.
  SharedArray<float> seen(kCount);
  const auto sum_again = [&second](int rank) -> std::string {
    auto member = second.Join(rank, kLong);
    if (!member.ok()) return Said(member.status());
    std::vector<float> data = Numbers(1001, rank);
    const absl::Status status = (*member)->communicator().OrderedSum(data.data(), 1001);
    if (!status.ok()) return Said(status);
    const std::vector<float> want = PlainSum(1001, {0, 1, 2, 3});
    return SameBytes(data.data(), want.data(), 1001) ? "OK" : "another sum";
  };
  const Body body = [&](Communicator& communicator, Link& parent) {
    const int rank = communicator.rank();
    std::vector<float> own(rank == kVictim ? 0 : kCount);
    float* const data = rank == kVictim ? seen.data() : own.data();
    absl::Status status;
    absl::Time begin;
    for (int round = 0; round < kRoundsMax && status.ok(); ++round) {
      std::fill(data, data + kCount, 1.0f);
      begin = MonotonicNow();
      status = communicator.OrderedSum(data, kCount);
    }
    const bool soon = MonotonicNow() - begin < kSoon;
    parent.Say(absl::StrCat(soon ? "" : "late: ", Said(status)));
    return sum_again(rank);
  };
  for (int rank = 0; rank < 4; ++rank) Start(first, rank, body);
  // The first element is of rank 0's shard, so a sum in it came from there.
  std::atomic_ref<float> element(seen.data()[0]);
  const absl::Time deadline = MonotonicNow() + kPatience;
  while (element != 4.0f && MonotonicNow() < deadline) std::this_thread::yield();
  ASSERT_EQ(element, 4.0f) << link(0).Hear();
  std::next(processes_.begin(), kVictim)->Kill();
  RankProcess replacement([&](Link&) { return sum_again(kVictim); });
  std::vector<std::string> said;
  for (const int rank : {0, 1, 3}) {
    said.push_back(link(rank).Hear());
    EXPECT_EQ(link(rank).Hear(), "OK");
  }
  EXPECT_THAT(said, Each(AllOf(StartsWith("UNAVAILABLE: rank "), HasSubstr(" of 4000000 floats"))));
  // The first to notice leaves, and may be what the next one notices.
  EXPECT_THAT(said, Contains(ContainsRegex("(rank |, )2($|[:,; ])")));
  EXPECT_EQ(replacement.link().Hear(), "OK");
}

TEST_P(CommunicatorContractTest, AbortEndsTheCallUnderWayOnEveryRank) {
  Meeting meeting(GetParam(), 4);
  const Body body = [](Communicator& communicator, Link& parent) {
    std::vector<float> data(10'000);
    if (communicator.rank() == 3) {
      parent.Hear();  // Silent until the others have said how their sum ended.
      return Said(communicator.OrderedSum(data.data(), data.size()));
    }
    std::thread aborter([&] {
      if (communicator.rank() != 1) return;
      WaitUntilFirstThreadSleeps();
      communicator.Abort();
      communicator.Abort();
    });
    const absl::Status status = communicator.OrderedSum(data.data(), data.size());
    aborter.join();
    return Said(status);
  };
  const absl::Time begin = MonotonicNow();
  for (int rank = 0; rank < 4; ++rank) Start(meeting, rank, body);
  EXPECT_THAT(link(1).Hear(), StartsWith("ABORTED: rank 1 of 4"));
  EXPECT_THAT(link(0).Hear(), StartsWith("UNAVAILABLE: rank 0 of 4: sum 1"));
  EXPECT_THAT(link(2).Hear(), StartsWith("UNAVAILABLE: rank 2 of 4: sum 1"));
  link(3).Say("go on");
  EXPECT_THAT(link(3).Hear(), StartsWith("UNAVAILABLE: rank 3 of 4: sum 1"));
  EXPECT_THAT(MonotonicNow() - begin, Lt(kSoon));
}

TEST_P(CommunicatorContractTest, AnAbortBetweenCallsEndsTheNextOnes) {
  const auto said = RunGang(2, [](Communicator& communicator, Link&) {
    absl::Status status = communicator.Barrier();
    if (!status.ok()) return absl::StrCat("first: ", Said(status));
    if (communicator.rank() == 0) communicator.Abort();
    return Said(communicator.Barrier());
  });
  EXPECT_THAT(said, ElementsAre(StartsWith("ABORTED: rank 0 of 2"),
                                StartsWith("UNAVAILABLE: rank 1 of 2: barrier 2")));
}

TEST_P(CommunicatorContractTest, ASilentPeerIsNamedWhenTheTimeoutHasPassed) {
  for (const int size : {2, 4}) {
    Meeting meeting(GetParam(), size);
    const Body body = [size](Communicator& communicator, Link& parent) {
      if (communicator.rank() == size - 1) return parent.Hear();
      return Said(communicator.Barrier());
    };
    processes_.clear();
    for (int rank = 0; rank < size; ++rank) Start(meeting, rank, body, absl::Milliseconds(500));
    const auto silent =
        GetParam() == CommunicatorKind::kTcp ? absl::StrCat("rank ", size - 1) : "other ranks";
    const auto timed_out =
        AllOf(StartsWith("DEADLINE_EXCEEDED: rank "), HasSubstr("barrier 1"), HasSubstr(silent));
    for (int rank = 0; rank < size - 1; ++rank) {
      const std::string said = link(rank).Hear();
      // The first to lose patience leaves, and the others may notice that before their own time.
      if (size == 2) {
        EXPECT_THAT(said, timed_out);
      } else {
        EXPECT_THAT(said, AnyOf(timed_out, StartsWith("UNAVAILABLE: rank ")));
      }
    }
    link(size - 1).Say("go home");
    EXPECT_EQ(link(size - 1).Hear(), "go home");
  }
}

INSTANTIATE_TEST_SUITE_P(Every, CommunicatorContractTest,
                         ::testing::Values(CommunicatorKind::kTcp, CommunicatorKind::kNccl),
                         [](const auto& kind) {
                           return kind.param == CommunicatorKind::kTcp ? "Tcp" : "Nccl";
                         });

}  // namespace
}  // namespace deltaworks::trainer

// test_nccl.cc is strict: each misuse of NCCL that could stay unnoticed on a good day is shown to
// it here, beside the right use, and must be refused. Two ranks live in this process, each on a
// stream of its own.

#include <cstring>
#include <functional>
#include <utility>

#include "gtest/gtest.h"
#include "trainer/comm/nccl_library.h"
#include "trainer/comm/testing/host_device.h"
#include "trainer/comm/testing/use_test_nccl.h"

namespace deltaworks::trainer {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

class TestNcclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    UseTestNccl();
    auto library = NcclLibrary::Load();
    ASSERT_TRUE(library.ok()) << library.status();
    nccl_ = library->functions();
    NcclUniqueId id;
    ASSERT_EQ(nccl_.GetUniqueId(&id), kNcclSuccess);
    NcclConfig config;
    for (int rank = 0; rank < 2; ++rank) {
      ASSERT_EQ(nccl_.CommInitRankConfig(&comm_[rank], 2, id, rank, &config), kNcclInProgress);
    }
    id_ = id;
    for (int rank = 0; rank < 2; ++rank) ASSERT_EQ(Settle(rank), kNcclSuccess);
  }

  void TearDown() override {
    for (const NcclComm comm : comm_) {
      if (comm != nullptr) nccl_.CommAbort(comm);
    }
  }

  void* stream(int rank) { return devices_[rank].stream(); }

  // Waits until the library has taken the last call; what came of it is Outcome's.
  NcclResult Settle(int rank) {
    NcclResult state = kNcclInProgress;
    while (state == kNcclInProgress) {
      const NcclResult result = nccl_.CommGetAsyncError(comm_[rank], &state);
      if (result != kNcclSuccess) return result;
    }
    return kNcclSuccess;
  }

  // Makes one group of rank `rank`, and waits until the library has taken it.
  NcclResult Group(int rank, const std::function<NcclResult()>& fill) {
    EXPECT_EQ(nccl_.GroupStart(), kNcclSuccess);
    const NcclResult filled = fill();
    const NcclResult ended = nccl_.GroupEnd();
    if (filled != kNcclSuccess) {
      EXPECT_EQ(ended, filled) << "the group must fail with its member";
      return filled;
    }
    if (ended != kNcclInProgress) return ended;
    return Settle(rank);
  }
  NcclResult Send(int rank, int count, NcclDataType type = kNcclFloat32) {
    return Group(rank, [&] {
      return nccl_.Send(data_[rank], count, type, 1 - rank, comm_[rank], stream(rank));
    });
  }
  NcclResult Receive(int rank, int count, NcclDataType type = kNcclFloat32) {
    return Group(rank, [&] {
      return nccl_.Recv(data_[rank], count, type, 1 - rank, comm_[rank], stream(rank));
    });
  }
  NcclResult Broadcast(int rank, int count, int root, NcclDataType type = kNcclFloat32) {
    const NcclResult result =
        nccl_.Broadcast(data_[rank], data_[rank], count, type, root, comm_[rank], stream(rank));
    return result == kNcclInProgress ? Settle(rank) : result;
  }

  // What came of everything on rank `rank`'s stream; kNcclInProgress if it hangs.
  NcclResult Outcome(int rank) {
    if (!devices_[rank].Wait(kPatience).value()) return kNcclInProgress;
    NcclResult state = kNcclSuccess;
    EXPECT_EQ(nccl_.CommGetAsyncError(comm_[rank], &state), kNcclSuccess);
    return state;
  }

  HostDevice devices_[2];
  NcclFunctions nccl_;
  NcclUniqueId id_;
  NcclComm comm_[2] = {};
  float data_[2][8] = {{1, 2, 3, 4, 5, 6, 7, 8}, {}};
};

TEST_F(TestNcclTest, TheRightUseIsRight) {
  ASSERT_EQ(Send(0, 8), kNcclSuccess);
  ASSERT_EQ(Receive(1, 8), kNcclSuccess);
  EXPECT_EQ(Outcome(0), kNcclSuccess);
  EXPECT_EQ(Outcome(1), kNcclSuccess);
  EXPECT_EQ(std::memcmp(data_[0], data_[1], sizeof(data_[0])), 0);
  data_[1][3] = 40;
  ASSERT_EQ(Broadcast(0, 8, 1), kNcclSuccess);
  ASSERT_EQ(Broadcast(1, 8, 1), kNcclSuccess);
  EXPECT_EQ(Outcome(0), kNcclSuccess);
  EXPECT_EQ(Outcome(1), kNcclSuccess);
  EXPECT_EQ(data_[0][3], 40);
  for (NcclComm& comm : comm_) {
    EXPECT_EQ(nccl_.CommDestroy(comm), kNcclSuccess);
    comm = nullptr;
  }
}

TEST_F(TestNcclTest, AGroupEndWithoutAStartIsInvalidUsage) {
  EXPECT_EQ(nccl_.GroupEnd(), kNcclInvalidUsage);
  ASSERT_EQ(nccl_.GroupStart(), kNcclSuccess);
  ASSERT_EQ(nccl_.GroupEnd(), kNcclSuccess);
  EXPECT_EQ(nccl_.GroupEnd(), kNcclInvalidUsage);
}

TEST_F(TestNcclTest, ASendOrReceiveOutsideAGroupIsInvalidUsage) {
  EXPECT_EQ(nccl_.Send(data_[0], 8, kNcclFloat32, 1, comm_[0], stream(0)), kNcclInvalidUsage);
  EXPECT_EQ(nccl_.Recv(data_[0], 8, kNcclFloat32, 1, comm_[0], stream(0)), kNcclInvalidUsage);
}

TEST_F(TestNcclTest, TwoSendsWithoutAReceiveWaitUntilTheyAreAborted) {
  ASSERT_EQ(Send(0, 8), kNcclSuccess);
  ASSERT_EQ(Send(1, 8), kNcclSuccess);
  // Both send in call 1 and neither receives: both wait, and only an abort ends it.
  EXPECT_FALSE(devices_[0].Wait(absl::Milliseconds(50)).value());
  EXPECT_EQ(nccl_.CommDestroy(comm_[0]), kNcclInvalidUsage);
  EXPECT_EQ(nccl_.CommAbort(std::exchange(comm_[0], nullptr)), kNcclSuccess);
  EXPECT_EQ(nccl_.CommAbort(std::exchange(comm_[1], nullptr)), kNcclSuccess);
}

TEST_F(TestNcclTest, OneSendTooManyIsInvalidUsage) {
  ASSERT_EQ(Group(0,
                  [&] {
                    nccl_.Send(data_[0], 4, kNcclFloat32, 1, comm_[0], stream(0));
                    return nccl_.Send(data_[0] + 4, 4, kNcclFloat32, 1, comm_[0], stream(0));
                  }),
            kNcclSuccess);
  ASSERT_EQ(Receive(1, 4), kNcclSuccess);
  EXPECT_EQ(Outcome(1), kNcclSuccess);
  EXPECT_EQ(Outcome(0), kNcclInvalidUsage);
}

TEST_F(TestNcclTest, OneReceiveTooManyIsInvalidUsage) {
  ASSERT_EQ(Send(0, 4), kNcclSuccess);
  ASSERT_EQ(Group(1,
                  [&] {
                    nccl_.Recv(data_[1], 4, kNcclFloat32, 0, comm_[1], stream(1));
                    return nccl_.Recv(data_[1] + 4, 4, kNcclFloat32, 0, comm_[1], stream(1));
                  }),
            kNcclSuccess);
  EXPECT_EQ(Outcome(0), kNcclSuccess);
  EXPECT_EQ(Outcome(1), kNcclInvalidUsage);
}

TEST_F(TestNcclTest, AnUnreadMessageAtTheEndIsInvalidUsage) {
  ASSERT_EQ(Send(0, 4), kNcclSuccess);
  EXPECT_FALSE(devices_[0].Wait(absl::Milliseconds(50)).value());
  EXPECT_EQ(nccl_.CommDestroy(std::exchange(comm_[1], nullptr)), kNcclInvalidUsage);
}

TEST_F(TestNcclTest, AnotherCountIsInvalidArgumentOnBothSides) {
  for (const int count : {7, 9}) {
    float room[16] = {};
    ASSERT_EQ(Send(0, 8), kNcclSuccess);
    ASSERT_EQ(
        Group(1, [&] { return nccl_.Recv(room, count, kNcclFloat32, 0, comm_[1], stream(1)); }),
        kNcclSuccess);
    EXPECT_EQ(Outcome(1), kNcclInvalidArgument);
    EXPECT_EQ(Outcome(0), kNcclInvalidArgument);
    EXPECT_EQ(room[0], 0) << "nothing may be written";
    TearDown();
    SetUp();
  }
}

TEST_F(TestNcclTest, AnotherTypeIsInvalidArgumentOnBothSides) {
  ASSERT_EQ(Send(0, 8, kNcclUint8), kNcclSuccess);
  ASSERT_EQ(Receive(1, 8, kNcclFloat32), kNcclSuccess);
  EXPECT_EQ(Outcome(1), kNcclInvalidArgument);
  EXPECT_EQ(Outcome(0), kNcclInvalidArgument);
}

TEST_F(TestNcclTest, AnUnknownTypeIsInvalidArgument) {
  EXPECT_EQ(Send(0, 8, static_cast<NcclDataType>(11)), kNcclInvalidArgument);
  EXPECT_EQ(Broadcast(0, 8, 0, static_cast<NcclDataType>(-1)), kNcclInvalidArgument);
}

TEST_F(TestNcclTest, APeerOrRootOutOfBoundsIsInvalidArgument) {
  for (const int peer : {-1, 2, 0}) {  // Rank 0 does not send to itself.
    EXPECT_EQ(
        Group(0, [&] { return nccl_.Send(data_[0], 1, kNcclFloat32, peer, comm_[0], stream(0)); }),
        kNcclInvalidArgument);
  }
  EXPECT_EQ(Broadcast(0, 8, 2), kNcclInvalidArgument);
  EXPECT_EQ(Broadcast(0, 8, -1), kNcclInvalidArgument);
}

TEST_F(TestNcclTest, AnotherRootIsInvalidArgumentOnBothSides) {
  ASSERT_EQ(Broadcast(0, 8, 0), kNcclSuccess);
  ASSERT_EQ(Broadcast(1, 8, 1), kNcclSuccess);
  EXPECT_EQ(Outcome(0), kNcclInvalidArgument);
  EXPECT_EQ(Outcome(1), kNcclInvalidArgument);
}

TEST_F(TestNcclTest, AnotherCountOfABroadcastIsInvalidArgumentOnBothSides) {
  ASSERT_EQ(Broadcast(0, 8, 0), kNcclSuccess);
  ASSERT_EQ(Broadcast(1, 7, 0), kNcclSuccess);
  EXPECT_EQ(Outcome(0), kNcclInvalidArgument);
  EXPECT_EQ(Outcome(1), kNcclInvalidArgument);
}

TEST_F(TestNcclTest, AGroupBesideABroadcastIsInvalidUsageOnBothSides) {
  ASSERT_EQ(Broadcast(0, 8, 0), kNcclSuccess);
  ASSERT_EQ(Receive(1, 8), kNcclSuccess);
  EXPECT_EQ(Outcome(0), kNcclInvalidUsage);
  EXPECT_EQ(Outcome(1), kNcclInvalidUsage);
}

TEST_F(TestNcclTest, ACallBeforeTheLastOneSettledIsInvalidUsage) {
  ASSERT_EQ(nccl_.GroupStart(), kNcclSuccess);
  ASSERT_EQ(nccl_.Send(data_[0], 8, kNcclFloat32, 1, comm_[0], stream(0)), kNcclSuccess);
  ASSERT_EQ(nccl_.GroupEnd(), kNcclInProgress);
  EXPECT_EQ(nccl_.Broadcast(data_[0], data_[0], 8, kNcclFloat32, 0, comm_[0], stream(0)),
            kNcclInvalidUsage);
  EXPECT_EQ(Settle(0), kNcclSuccess);
  EXPECT_EQ(Receive(1, 8), kNcclSuccess);
  EXPECT_EQ(Outcome(0), kNcclSuccess);
}

TEST_F(TestNcclTest, TwoCommunicatorsInOneGroupAreInvalidUsage) {
  ASSERT_EQ(nccl_.GroupStart(), kNcclSuccess);
  ASSERT_EQ(nccl_.Send(data_[0], 8, kNcclFloat32, 1, comm_[0], stream(0)), kNcclSuccess);
  EXPECT_EQ(nccl_.Recv(data_[1], 8, kNcclFloat32, 0, comm_[1], stream(1)), kNcclInvalidUsage);
  EXPECT_EQ(nccl_.GroupEnd(), kNcclInvalidUsage);
}

TEST_F(TestNcclTest, ACommunicatorThatIsNoneIsInvalidArgument) {
  int not_one = 0;
  NcclResult state = kNcclSuccess;
  for (void* bad : {static_cast<void*>(nullptr), static_cast<void*>(&not_one)}) {
    EXPECT_EQ(nccl_.Send(data_[0], 1, kNcclFloat32, 1, bad, stream(0)), kNcclInvalidArgument);
    EXPECT_EQ(nccl_.Broadcast(data_[0], data_[0], 1, kNcclFloat32, 0, bad, stream(0)),
              kNcclInvalidArgument);
    EXPECT_EQ(nccl_.CommGetAsyncError(bad, &state), kNcclInvalidArgument);
    EXPECT_EQ(nccl_.CommAbort(bad), kNcclInvalidArgument);
    EXPECT_EQ(nccl_.CommDestroy(bad), kNcclInvalidArgument);
  }
}

TEST_F(TestNcclTest, UseAfterAbortOrDestroyIsInvalidArgument) {
  const NcclComm aborted = std::exchange(comm_[0], nullptr);
  const NcclComm destroyed = std::exchange(comm_[1], nullptr);
  ASSERT_EQ(nccl_.CommAbort(aborted), kNcclSuccess);
  ASSERT_EQ(nccl_.CommDestroy(destroyed), kNcclSuccess);
  NcclResult state = kNcclSuccess;
  for (const NcclComm gone : {aborted, destroyed}) {
    EXPECT_EQ(nccl_.Broadcast(data_[0], data_[0], 1, kNcclFloat32, 0, gone, stream(0)),
              kNcclInvalidArgument);
    EXPECT_EQ(nccl_.CommGetAsyncError(gone, &state), kNcclInvalidArgument);
    EXPECT_EQ(nccl_.CommAbort(gone), kNcclInvalidArgument);
    EXPECT_EQ(nccl_.CommDestroy(gone), kNcclInvalidArgument);
  }
}

TEST_F(TestNcclTest, NoPointerOrNoStreamIsInvalidArgument) {
  EXPECT_EQ(Group(0, [&] { return nccl_.Send(nullptr, 1, kNcclFloat32, 1, comm_[0], stream(0)); }),
            kNcclInvalidArgument);
  EXPECT_EQ(Group(0, [&] { return nccl_.Recv(data_[0], 1, kNcclFloat32, 1, comm_[0], nullptr); }),
            kNcclInvalidArgument);
}

TEST_F(TestNcclTest, ABadConfigurationIdRankOrSizeIsInvalidArgument) {
  NcclComm comm = nullptr;
  const auto init = [&](int size, NcclUniqueId id, int rank, NcclConfig config) {
    return nccl_.CommInitRankConfig(&comm, size, id, rank, &config);
  };
  EXPECT_EQ(init(2, id_, 2, NcclConfig()), kNcclInvalidArgument);
  EXPECT_EQ(init(0, id_, 0, NcclConfig()), kNcclInvalidArgument);
  EXPECT_EQ(init(2, NcclUniqueId(), 0, NcclConfig()), kNcclInvalidArgument);
  EXPECT_EQ(init(2, id_, 0, NcclConfig{.magic = 1}), kNcclInvalidArgument);
  EXPECT_EQ(init(2, id_, 0, NcclConfig{.version = 1}), kNcclInvalidArgument);
  EXPECT_EQ(init(2, id_, 0, NcclConfig{.size = 8}), kNcclInvalidArgument);
  // Rank 0 twice, and ranks of two sizes, under one id.
  NcclUniqueId id;
  ASSERT_EQ(nccl_.GetUniqueId(&id), kNcclSuccess);
  ASSERT_EQ(init(2, id, 0, NcclConfig()), kNcclInProgress);
  const NcclComm first = comm;
  EXPECT_EQ(init(2, id, 0, NcclConfig()), kNcclInvalidArgument);
  EXPECT_EQ(init(3, id, 1, NcclConfig()), kNcclInvalidArgument);
  EXPECT_EQ(nccl_.Broadcast(data_[0], data_[0], 1, kNcclFloat32, 0, first, stream(0)),
            kNcclInvalidUsage)
      << "rank 1 has not come yet";
  EXPECT_EQ(nccl_.CommAbort(first), kNcclSuccess);
}

TEST_F(TestNcclTest, AfterAnErrorEveryCallSaysItAgain) {
  ASSERT_EQ(Send(0, 8), kNcclSuccess);
  ASSERT_EQ(Receive(1, 7), kNcclSuccess);
  EXPECT_EQ(Outcome(0), kNcclInvalidArgument);
  EXPECT_EQ(Send(0, 8), kNcclInvalidArgument);
  EXPECT_EQ(Broadcast(0, 8, 0), kNcclInvalidArgument);
}

}  // namespace
}  // namespace deltaworks::trainer

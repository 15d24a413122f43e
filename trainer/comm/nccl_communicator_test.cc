// What only NcclCommunicator has: a library found at run time, a device that can fail, and NCCL's
// silence about peers that are gone. Ranks are threads here; what all implementations share is in
// communicator_contract_test.cc.

#include "trainer/comm/nccl_communicator.h"

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/comm/monotonic.h"
#include "trainer/comm/nccl_library.h"
#include "trainer/comm/testing/host_device.h"
#include "trainer/comm/testing/use_test_nccl.h"

namespace deltaworks::trainer {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Said(const absl::Status& status) { return std::string(status.message()); }

void InParallel(const std::vector<std::function<void()>>& bodies) {
  std::vector<std::thread> threads;
  for (const auto& body : bodies) threads.emplace_back(body);
  for (std::thread& each : threads) each.join();
}

class NcclCommunicatorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    UseTestNccl();
    auto library = NcclLibrary::Load();
    ASSERT_TRUE(library.ok()) << library.status();
    library_ = *std::move(library);
  }

  NcclCommunicator::Options Options(int rank, const NcclUniqueId& id) const {
    NcclCommunicator::Options options;
    options.rank = rank;
    options.size = 2;
    options.id = id;
    options.connect_timeout = absl::Seconds(20);
    options.timeout = absl::Seconds(20);
    return options;
  }

  // Two ranks that have met. Neither has the other's alarm.
  std::vector<std::unique_ptr<NcclCommunicator>> Meet(absl::Duration timeout,
                                                      CollectiveDevice& device0,
                                                      CollectiveDevice& device1) {
    const auto id = library_.MakeUniqueId();
    EXPECT_TRUE(id.ok()) << id.status();
    std::vector<std::unique_ptr<NcclCommunicator>> ranks(2);
    const auto meet = [&](int rank, CollectiveDevice& device) {
      auto options = Options(rank, *id);
      options.timeout = timeout;
      auto communicator = NcclCommunicator::Create(options, library_, device);
      ASSERT_TRUE(communicator.ok()) << communicator.status();
      ranks[rank] = *std::move(communicator);
    };
    InParallel({[&] { meet(0, device0); }, [&] { meet(1, device1); }});
    return ranks;
  }

  NcclLibrary library_;
};

TEST(NcclLibraryTest, AMissingFileIsNamed) {
  const absl::Status status = NcclLibrary::Load("no_such_folder/libnccl.so.2").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Said(status), AllOf(StartsWith("NCCL: looked for no_such_folder/libnccl.so.2"),
                                  HasSubstr("DELTAWORKS_NCCL_LIBRARY")));
}

TEST(NcclLibraryTest, ALibraryWithoutTheFunctionsIsNamedWithTheFirstThatItLacks) {
  const absl::Status status = NcclLibrary::Load("libm.so.6").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(Said(status),
            "NCCL: libm.so.6 has no function ncclGetVersion, want NCCL 2.14 or later");
}

TEST(NcclLibraryTest, TheEnvironmentNamesTheFileIfTheCallerDoesNot) {
  UseTestNccl();
  const char* const named = std::getenv(NcclLibrary::kPathVariable);
  ASSERT_NE(named, nullptr);
  const auto library = NcclLibrary::Load();
  ASSERT_TRUE(library.ok()) << library.status();
  EXPECT_EQ(library->path(), named);
  EXPECT_EQ(library->version(), 21400);
}

TEST_F(NcclCommunicatorTest, OptionsOutOfBoundsAreRefused) {
  HostDevice device;
  const auto expect_refused = [&](const std::function<void(NcclCommunicator::Options&)>& spoil,
                                  const std::string& message) {
    auto options = Options(0, {});
    spoil(options);
    const absl::Status status = NcclCommunicator::Create(options, library_, device).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(Said(status), message);
  };
  expect_refused([](auto& o) { o.size = 0; }, "size is 0, want 1..1024");
  expect_refused([](auto& o) { o.size = 1025; }, "size is 1025, want 1..1024");
  expect_refused([](auto& o) { o.rank = 2; }, "rank is 2, want 0..1");
  expect_refused([](auto& o) { o.scratch_bytes = 0; }, "scratch_bytes is 0, want 4096..1073741824");
}

TEST_F(NcclCommunicatorTest, ARankThatNeverComesIsADeadlineExceededOfCreate) {
  HostDevice device;
  const auto id = library_.MakeUniqueId();
  ASSERT_TRUE(id.ok()) << id.status();
  auto options = Options(0, *id);
  options.connect_timeout = absl::Milliseconds(200);
  const absl::Status status = NcclCommunicator::Create(options, library_, device).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(Said(status), StartsWith("rank 0 of 2: connect: timed out"));
}

TEST_F(NcclCommunicatorTest, AnErrorOfTheLibraryIsInternalWithItsWords) {
  HostDevice device;
  const absl::Status status =
      NcclCommunicator::Create(Options(0, NcclUniqueId()), library_, device).status();
  EXPECT_TRUE(absl::IsInternal(status)) << status;
  EXPECT_EQ(Said(status), "rank 0 of 2: connect: ncclCommInitRankConfig: invalid argument (4)");
}

TEST_F(NcclCommunicatorTest, WithoutAnAlarmASilentPeerIsNoticedAtTheDeadline) {
  HostDevice device0, device1;
  auto ranks = Meet(absl::Milliseconds(300), device0, device1);
  ranks[1]->Abort();
  std::vector<float> data(1000, 1.0f);
  const absl::Time begin = MonotonicNow();
  const absl::Status status = ranks[0]->OrderedSum(data.data(), data.size());
  EXPECT_GE(MonotonicNow() - begin, absl::Milliseconds(300));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(Said(status), StartsWith("rank 0 of 2: sum 1 of 1000 floats: timed out"));
  EXPECT_EQ(ranks[0]->Barrier(), status);
  // The stream is free again, and the process may join another gang.
  EXPECT_EQ(device0.Wait(absl::ZeroDuration()).value(), true);
  ranks = Meet(absl::Seconds(20), device0, device1);
  InParallel({[&] { EXPECT_TRUE(ranks[0]->Barrier().ok()); },
              [&] { EXPECT_TRUE(ranks[1]->Barrier().ok()); }});
}

// Has no room, and faults when told to.
class BadDevice final : public CollectiveDevice {
 public:
  absl::Status MakeCurrent() override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes) override {
    if (!faults) return absl::ResourceExhaustedError("no room");
    return device_.Allocate(bytes);
  }
  absl::Status Add(const float* from, float* to, int64_t count) override {
    return device_.Add(from, to, count);
  }
  absl::Status Copy(const void* from, void* to, int64_t bytes) override {
    return device_.Copy(from, to, bytes);
  }
  absl::Status CopyToDevice(const void* host, void* device, int64_t bytes) override {
    return device_.CopyToDevice(host, device, bytes);
  }
  absl::Status CopyToHost(const void* device, void* host, int64_t bytes) override {
    return device_.CopyToHost(device, host, bytes);
  }
  void* stream() override { return device_.stream(); }
  absl::StatusOr<bool> Wait(absl::Duration patience) override {
    if (faults) return absl::InternalError("fault of the device");
    return device_.Wait(patience);
  }

  bool faults = false;

 private:
  HostDevice device_;
};

TEST_F(NcclCommunicatorTest, WhatTheDeviceSaysComesOutAndIsTheEnd) {
  for (const bool faults : {false, true}) {
    BadDevice bad;
    HostDevice good;
    auto ranks = Meet(absl::Milliseconds(300), bad, good);
    bad.faults = faults;
    absl::Status status[2];
    InParallel(
        {[&] { status[0] = ranks[0]->Barrier(); }, [&] { status[1] = ranks[1]->Barrier(); }});
    EXPECT_EQ(Said(status[0]), faults ? "fault of the device" : "no room");
    EXPECT_EQ(ranks[0]->Barrier(), status[0]);
  }
}

TEST_F(NcclCommunicatorTest, ASumOfManyRoundsIsTheSumOfOne) {
  constexpr int64_t kCount = 100'003;
  std::vector<float> sums[2];
  for (const int64_t scratch_bytes : {4 << 10, 64 << 20}) {
    HostDevice devices[2];
    const auto id = library_.MakeUniqueId();
    ASSERT_TRUE(id.ok()) << id.status();
    std::vector<float> data[2];
    const auto sum = [&](int rank) {
      for (int64_t i = 0; i < kCount; ++i) data[rank].push_back(0.1f * i + rank);
      auto options = Options(rank, *id);
      options.scratch_bytes = scratch_bytes;
      auto communicator = NcclCommunicator::Create(options, library_, devices[rank]);
      ASSERT_TRUE(communicator.ok()) << communicator.status();
      EXPECT_TRUE((*communicator)->OrderedSum(data[rank].data(), kCount).ok());
    };
    InParallel({[&] { sum(0); }, [&] { sum(1); }});
    EXPECT_EQ(data[0], data[1]);
    sums[scratch_bytes == 4 << 10 ? 0 : 1] = data[0];
  }
  EXPECT_EQ(sums[0], sums[1]);
}

}  // namespace
}  // namespace deltaworks::trainer

// Members meet at the addresses they were given, add up on their devices through NCCL (a library of
// ours that is strict), and notice who is gone.

#include "services/worker/gang_member.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/comm/testing/host_device.h"
#include "trainer/comm/testing/rank_process.h"
#include "trainer/comm/testing/use_test_nccl.h"

namespace deltaworks::services {
namespace {

using trainer::Link;
using trainer::RankProcess;

constexpr int kSize = 3;

// Listens for all; each process uses its own.
struct Addresses {
  Addresses() {
    for (int rank = 0; rank < kSize; ++rank) {
      listeners.push_back(*trainer::TcpListener::Bind("127.0.0.1", 0));
      gang.add_workers(absl::StrCat("workers/", rank));
      gang.add_addresses(listeners.back()->address());
    }
    gang.set_token(std::string(32, 's'));
  }
  std::unique_ptr<GangMember> Meet(int rank) {
    v1::Gang mine = gang;
    mine.set_rank(rank);
    auto member = GangMember::Meet(mine, *listeners[static_cast<size_t>(rank)],
                                   std::make_shared<Cancellation>());
    CHECK(member.ok()) << member.status();
    return *std::move(member);
  }

  v1::Gang gang;
  std::vector<std::unique_ptr<trainer::TcpListener>> listeners;
};

TEST(GangMemberTest, DevicesAddUpAndAMemberThatIsKilledIsNoticedByTheOthers) {
  trainer::UseTestNccl();
  Addresses addresses;
  std::vector<std::unique_ptr<RankProcess>> ranks;
  for (int rank = 0; rank < kSize; ++rank) {
    ranks.push_back(std::make_unique<RankProcess>([&, rank](Link& parent) -> std::string {
      const std::unique_ptr<GangMember> member = addresses.Meet(rank);
      CHECK_EQ(member->rank(), rank);
      CHECK(&member->of_devices() == &member->of_hosts());
      const absl::Status joined = member->JoinDevices(std::make_unique<trainer::HostDevice>());
      if (!joined.ok()) return joined.ToString();
      CHECK(&member->of_devices() != &member->of_hosts());
      std::vector<float> data = {1.0f, 10.0f * static_cast<float>(rank)};
      absl::Status status = member->of_devices().OrderedSum(data.data(), 2);
      if (!status.ok()) return status.ToString();
      parent.Say(absl::StrCat(data[0], " ", data[1]));
      parent.Hear();
      status = member->of_devices().OrderedSum(data.data(), 2);
      CHECK(!member->PeerStatus().ok());
      return status.ToString();
    }));
  }
  for (const auto& rank : ranks) EXPECT_EQ(rank->link().Hear(), "3 30");
  ranks[2]->Kill();
  for (int rank = 0; rank < 2; ++rank) ranks[rank]->link().Say("go on");
  for (int rank = 0; rank < 2; ++rank) {
    const std::string answer = ranks[rank]->link().Hear();
    EXPECT_EQ(answer.substr(0, 11), "UNAVAILABLE") << answer;
    // Whoever of the others noticed first may be gone too.
    EXPECT_THAT(answer, ::testing::ContainsRegex("closed by rank ([01], )?2"));
  }
}

TEST(GangMemberTest, AMachineWithoutNcclSaysWhatItLooksFor) {
  setenv(trainer::NcclLibrary::kPathVariable, "/no/such/libnccl.so.2", /*replace=*/1);
  Addresses addresses;
  std::vector<std::unique_ptr<RankProcess>> ranks;
  for (int rank = 0; rank < kSize; ++rank) {
    ranks.push_back(std::make_unique<RankProcess>([&, rank](Link&) {
      return addresses.Meet(rank)->JoinDevices(std::make_unique<trainer::HostDevice>()).ToString();
    }));
  }
  for (const auto& rank : ranks) {
    EXPECT_NE(rank->link().Hear().find("/no/such/libnccl.so.2"), std::string::npos);
  }
  unsetenv(trainer::NcclLibrary::kPathVariable);
}

}  // namespace
}  // namespace deltaworks::services

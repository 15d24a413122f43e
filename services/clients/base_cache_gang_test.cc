// The nodes of a gang fetch a base together: what they lack leaves the store once, whatever each
// has, and no byte that another member sent is used that does not match its digest.

#include <sys/stat.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/base/manifest.h"
#include "services/base/metrics.h"
#include "services/clients/base_cache.h"
#include "services/clients/fake_base.h"
#include "services/clients/fake_store_client.h"
#include "trainer/base/file.h"
#include "trainer/comm/testing/meeting.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

const BlobAccess kAccess = {"t", "tenants/t/jobs/j"};
constexpr int64_t kConfigBytes = sizeof(FakeBase::kConfig) - 1;

// A store that may refuse in the middle of a stream.
class RefusingStore final : public FakeStoreClient {
 public:
  absl::Status ReadBlob(const v1::ReadBlobRequest& request, const Sink& sink) override {
    int64_t end = request.offset();
    return FakeStoreClient::ReadBlob(request, [&](absl::string_view piece) -> absl::Status {
      end += static_cast<int64_t>(piece.size());
      if (end > refuse_from) return absl::PermissionDeniedError("no longer yours");
      return sink(piece);
    });
  }
  int64_t refuse_from = std::numeric_limits<int64_t>::max();  // Bytes of any blob.
};

// A base, and nodes of their own for some members.
class BaseCacheGangTest : public ::testing::Test {
 protected:
  struct Node {
    explicit Node(std::string cache_folder, StoreClient& store)
        : folder(std::move(cache_folder)), cache(folder, store, metrics) {}
    int64_t Count(const std::string& metric) const {
      const std::string text = metrics.Text();
      const size_t at = text.find(absl::StrCat("\n", metric, " "));
      return at == std::string::npos ? -1 : std::stoll(text.substr(at + metric.size() + 2));
    }
    int64_t from_store() const { return Count("deltaworks_base_cache_fetched_bytes_total"); }
    int64_t from_gang() const { return Count("deltaworks_base_cache_gang_bytes_total"); }

    const std::string folder;
    Metrics metrics{"worker"};
    BaseCache cache;
  };

  void AddNodes(int count) {
    for (int i = 0; i < count; ++i) AddNode(absl::StrCat("node", i));
  }
  Node& AddNode(const std::string& name) {
    const std::string test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    nodes_.push_back(std::make_unique<Node>(
        absl::StrCat(::testing::TempDir(), "/gang_", test, "_", name), store_));
    return *nodes_.back();
  }
  std::string FolderOf(const Node& node, const std::string& suffix = "") const {
    return absl::StrCat(node.folder, "/bases/",
                        base_.manifest_digest.substr(std::string("sha256:").size()), suffix);
  }
  // What an interrupted fetch left: the first `bytes` of the weights.
  void LeavePart(const Node& node, int64_t bytes) {
    const std::string part = FolderOf(node, ".part");
    ASSERT_TRUE(MakeDirectories(part).ok());
    ASSERT_TRUE(WriteFileAtomically(part + "/model.safetensors.part",
                                    base_.weights.substr(0, static_cast<size_t>(bytes)))
                    .ok());
  }

  // All members at once, each on its node. A member that fails leaves the gang.
  std::vector<absl::Status> EnsureAll() {
    trainer::Meeting meeting(trainer::CommunicatorKind::kTcp, static_cast<int>(nodes_.size()));
    std::vector<absl::Status> statuses(nodes_.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      threads.emplace_back([&, i] {
        auto member = meeting.Join(static_cast<int>(i), absl::Seconds(30));
        CHECK(member.ok()) << member.status();
        statuses[i] =
            nodes_[i]
                ->cache
                .EnsureInGang(
                    kAccess, base_.manifest_digest, [] { return false; }, (*member)->communicator())
                .status();
      });
    }
    for (std::thread& thread : threads) thread.join();
    return statuses;
  }
  void ExpectAllHaveIt() {
    for (const absl::Status& status : EnsureAll()) EXPECT_TRUE(status.ok()) << status;
    for (const auto& node : nodes_) ExpectHasIt(*node);
  }
  void ExpectHasIt(const Node& node) {
    const auto weights = ReadFile(FolderOf(node) + "/model.safetensors");
    ASSERT_TRUE(weights.ok()) << weights.status();
    EXPECT_TRUE(*weights == base_.weights);
    const auto config = ReadFile(FolderOf(node) + "/config.json");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(*config, FakeBase::kConfig);
    struct stat info;
    ASSERT_EQ(stat((FolderOf(node) + "/model.safetensors").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0444);
    EXPECT_NE(stat(FolderOf(node, ".part").c_str(), &info), 0);
  }
  int64_t FromStore() const {
    int64_t sum = 0;
    for (const auto& node : nodes_) sum += node->from_store();
    return sum;
  }

  RefusingStore store_;
  const FakeBase base_ = AddFakeBase(store_, "t");
  std::vector<std::unique_ptr<Node>> nodes_;
};

TEST_F(BaseCacheGangTest, FourColdNodesTakeItFromTheStoreOnce) {
  AddNodes(4);
  ExpectAllHaveIt();
  EXPECT_EQ(store_.CallCount("ReadBlob"), 3);
  EXPECT_EQ(nodes_[0]->from_store(), base_.manifest_bytes + base_.file_bytes);
  for (int i = 1; i < 4; ++i) {
    EXPECT_EQ(nodes_[i]->from_store(), 0) << i;
    EXPECT_EQ(nodes_[i]->from_gang(), base_.file_bytes) << i;
  }
  // It is verified, and nobody asks for more than the manifest.
  ExpectAllHaveIt();
  EXPECT_EQ(store_.CallCount("ReadBlob"), 4);
}

TEST_F(BaseCacheGangTest, WhoHasItGivesItToTheOthers) {
  AddNodes(3);
  ASSERT_TRUE(nodes_[2]->cache.Ensure(kAccess, base_.manifest_digest, [] { return false; }).ok());
  const int64_t before = FromStore();
  ExpectAllHaveIt();
  EXPECT_EQ(FromStore(), before + base_.manifest_bytes);
  EXPECT_EQ(nodes_[2]->from_gang(), 0);
  EXPECT_EQ(nodes_[0]->from_gang(), base_.file_bytes);
}

TEST_F(BaseCacheGangTest, WhatInterruptedFetchesLeftIsUsedAndPassedOn) {
  AddNodes(4);
  LeavePart(*nodes_[1], kChunkBytes);
  LeavePart(*nodes_[2], 2 * kChunkBytes + 7);  // The seven are no whole chunk.
  ExpectAllHaveIt();
  EXPECT_EQ(FromStore(), base_.manifest_bytes + kConfigBytes + 1000);
  EXPECT_EQ(nodes_[2]->from_store(), 1000);
}

TEST_F(BaseCacheGangTest, MembersOfOneNodeWriteItOnce) {
  AddNode("shared");
  AddNode("shared");
  AddNode("own");
  ExpectAllHaveIt();
  // One of the two waited, and compared the files with the manifest then.
  EXPECT_EQ(FromStore(), 2 * base_.manifest_bytes + base_.file_bytes);
}

TEST_F(BaseCacheGangTest, AMemberThatFailsEndsItForAllAndTheNextTryGoesOn) {
  AddNodes(3);
  store_.refuse_from = kChunkBytes + 10;
  const std::vector<absl::Status> first = EnsureAll();
  EXPECT_TRUE(absl::IsPermissionDenied(first[0])) << first[0];
  EXPECT_TRUE(absl::IsUnavailable(first[1])) << first[1];
  EXPECT_THAT(std::string(first[1].message()), HasSubstr("rank 0"));
  EXPECT_TRUE(absl::IsUnavailable(first[2])) << first[2];
  const int64_t before = FromStore();
  store_.refuse_from = std::numeric_limits<int64_t>::max();
  ExpectAllHaveIt();
  EXPECT_EQ(FromStore(),
            before + base_.manifest_bytes + base_.file_bytes - kConfigBytes - kChunkBytes);
}

TEST_F(BaseCacheGangTest, BytesThatAnotherMemberDamagedAreNamedAndNotUsed) {
  AddNodes(2);
  ASSERT_TRUE(nodes_[0]->cache.Ensure(kAccess, base_.manifest_digest, [] { return false; }).ok());
  std::string damaged = base_.weights;
  damaged[static_cast<size_t>(kChunkBytes) + 5] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(FolderOf(*nodes_[0]) + "/model.safetensors", damaged).ok());
  const std::vector<absl::Status> statuses = EnsureAll();
  EXPECT_TRUE(absl::IsDataLoss(statuses[1])) << statuses[1];
  EXPECT_THAT(std::string(statuses[1].message()),
              HasSubstr("model.safetensors: the chunk at 4194304 that rank 0 sent is sha256:"));
  struct stat info;
  EXPECT_NE(stat(FolderOf(*nodes_[1]).c_str(), &info), 0);
}

}  // namespace
}  // namespace deltaworks::services

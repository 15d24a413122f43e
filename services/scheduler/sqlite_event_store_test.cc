// SqliteEventStore keeps the contract, and says what is wrong with its file.

#include "services/scheduler/sqlite_event_store.h"

#include <unistd.h>

#include <string>

#include "services/scheduler/testing/event_store_contract_test.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

std::string Path(const std::string& name, bool fresh) {
  const std::string path = ::testing::TempDir() + "/" + name;
  if (!fresh) return path;
  for (const char* suffix : {"", "-wal", "-shm"}) unlink((path + suffix).c_str());
  return path;
}

std::unique_ptr<EventStore> MakeSqlite(bool fresh) {
  auto store = SqliteEventStore::Open({.path = Path("contract.db", fresh),
                                       .events_kept = kContractEventsKept,
                                       .packed_points_max = kContractPackedPoints});
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

INSTANTIATE_TEST_SUITE_P(Sqlite, EventStoreContractTest, ::testing::Values(&MakeSqlite));
INSTANTIATE_TEST_SUITE_P(Sqlite, ArchiveContractTest, ::testing::Values(&MakeSqlite));

TEST(SqliteEventStoreTest, AFileThatAnotherStoreHoldsIsRefusedByName) {
  const std::string path = Path("held.db", /*fresh=*/true);
  const auto first = SqliteEventStore::Open({.path = path});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = SqliteEventStore::Open({.path = path, .busy_timeout_ms = 1});
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("database locked by another process"));
}

TEST(SqliteEventStoreTest, AFullDiskStoresNothingAndIsUsableAgainAfterALoad) {
  scheduler::Harness h;
  auto store = SqliteEventStore::Open(
      {.path = Path("full.db", /*fresh=*/true), .size_bytes_max = 128 << 10});
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE((*store)->Load().ok());
  bool is_known = false;
  ASSERT_TRUE((*store)->Append(1, h.log, &is_known).ok());
  const size_t kept = h.log.size();

  v1::CreateJobRequest large = scheduler::MakeCreateRequest("large");
  for (int i = 0; i < 64; ++i) {
    (*large.mutable_job()->mutable_labels())[absl::StrCat("k", i)] = std::string(250, 'x');
  }
  large.set_request_id("large");
  std::vector<scheduler::Event> events;
  for (int i = 0; i < 20; ++i) {
    large.set_job_id(absl::StrCat("large-", i));
    large.set_request_id(absl::StrCat("large-", i));
    ASSERT_TRUE(h.Execute(large).ok());
  }
  h.Commit();
  const absl::Status full = (*store)->Append(static_cast<int64_t>(kept) + 1,
                                             absl::MakeConstSpan(h.log).subspan(kept), &is_known);
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_TRUE(is_known);
  EXPECT_TRUE(absl::IsUnavailable((*store)->ReadEvents("tenants/t/jobs/a", 0, {}).status()));
  const auto loaded = (*store)->Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->events.size(), kept);
  EXPECT_TRUE((*store)
                  ->Append(static_cast<int64_t>(kept) + 1,
                           absl::MakeConstSpan(h.log).subspan(kept, 1), &is_known)
                  .ok());
}

}  // namespace
}  // namespace deltaworks::services

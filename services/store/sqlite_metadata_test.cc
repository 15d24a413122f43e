#include "services/store/sqlite_metadata.h"

#include <unistd.h>

#include "services/store/metadata_contract_test.h"

namespace deltaworks::services {
namespace {

std::string Path() { return ::testing::TempDir() + "/metadata.db"; }

std::unique_ptr<StoreMetadata> MakeSqlite(bool fresh) {
  if (fresh) {
    for (const char* suffix : {"", "-wal", "-shm"}) unlink((Path() + suffix).c_str());
  }
  auto metadata = SqliteStoreMetadata::Open(Path());
  EXPECT_TRUE(metadata.ok()) << metadata.status();
  return *std::move(metadata);
}

INSTANTIATE_TEST_SUITE_P(Sqlite, MetadataContractTest, ::testing::Values(&MakeSqlite));

TEST(SqliteMetadataTest, ASecondStoreIsKeptOut) {
  const auto first = MakeSqlite(/*fresh=*/true);
  const auto second = SqliteStoreMetadata::Open(Path(), {.busy_timeout_ms = 1});
  EXPECT_EQ(second.status().message(), "database locked by another process: " + Path());
}

TEST(SqliteMetadataTest, AFullDiskLosesNothing) {
  MakeSqlite(/*fresh=*/true);
  auto metadata = *SqliteStoreMetadata::Open(Path(), {.size_bytes_max = 256 << 10});
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  ASSERT_TRUE(metadata->PutReport("before", "kept", 100, now).ok());
  const absl::Status status = metadata->PutReport("big", std::string(1 << 20, 'x'), 100, now);
  ASSERT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(**metadata->FindReport("before"), "kept");
  EXPECT_TRUE(metadata->PutReport("after", "small", 100, now).ok());
}

}  // namespace
}  // namespace deltaworks::services

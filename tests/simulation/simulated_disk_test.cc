// What services keep on a disk, when its writes fail and the power goes: the simulated blob store
// is a BlobStore, and what a service read from its database is still there afterwards.

#include "tests/simulation/simulated_disk.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "scheduler/testing/harness.h"
#include "services/scheduler/sqlite_event_store.h"
#include "services/store/blob_store_contract_test.h"
#include "services/store/metadata_contract_test.h"
#include "tests/simulation/disk_blob_store.h"
#include "tests/simulation/disk_store_metadata.h"
#include "tests/simulation/disk_tables.h"
#include "tests/simulation/sqlite_on_disk.h"

namespace deltaworks::services {
namespace {

struct World {
  explicit World(const std::string& name) : disk(name, timeline, machine, random, counts) {}
  simulation::Timeline timeline;
  simulation::Machine machine{timeline, absl::Seconds(1)};
  simulation::SeededRandom random{1};
  simulation::FaultCounts counts;
  simulation::SimulatedDisk disk;
};

std::unique_ptr<BlobStore> MakeOnDisk(bool fresh) {
  static World& world = *new World("blobs/");  // Outlives the thread's list of disks.
  if (fresh) world.disk.files().clear();
  return std::make_unique<simulation::DiskBlobStore>(world.disk);
}

INSTANTIATE_TEST_SUITE_P(OnDisk, BlobStoreContractTest, ::testing::Values(&MakeOnDisk));

std::unique_ptr<StoreMetadata> MakeMetadata(bool fresh) {
  static World& world = *new World("metadata/");
  if (fresh) world.disk.files().clear();
  return *simulation::DiskStoreMetadata::Open(world.disk, "metadata/metadata.log");
}

INSTANTIATE_TEST_SUITE_P(OnDisk, MetadataContractTest, ::testing::Values(&MakeMetadata));

// As SqliteOnDiskTest, and the death of the process finds what an unknown commit left.
TEST(DiskTablesTest, AFailedCommitIsThereAsAWholeOrNotAtAllAndTheOthersAre) {
  using simulation::DiskTables;
  int unknown_kept = 0, unknown_lost = 0;
  for (int i = 0; i < 200; ++i) {
    SCOPED_TRACE(i);
    World world("tables/");
    world.random = simulation::SeededRandom(static_cast<uint64_t>(i));
    auto tables = *DiskTables::Open(world.disk, "tables/log", 1);
    const auto commit = [&](const std::string& a, const std::string& b) {
      return tables->Commit({{0, a, DiskTables::Row{"1", a}}, {0, b, DiskTables::Row{b}}});
    };
    ASSERT_TRUE(commit("a", "b").ok());
    world.disk.SetRates({.fails = 0.1, .unknown = 0.2, .full = 0.1});
    const absl::Status status = commit("a much longer key", "another");
    world.disk.SetRates({});
    EXPECT_EQ(tables->table(0).size(), status.ok() ? 4u : 2u);
    const bool more = world.random.Chance(0.5);
    if (more) {
      ASSERT_TRUE(commit("c", "d").ok());
    }
    world.disk.Crash();
    EXPECT_FALSE(commit("late", "later").ok());
    world.disk.Restart(/*lost_power=*/world.random.Chance(0.5));
    tables = *DiskTables::Open(world.disk, "tables/log", 1);
    const auto& table = tables->table(0);
    EXPECT_TRUE(table.contains("a") && table.contains("b"));
    EXPECT_EQ(table.contains("c"), more);
    EXPECT_EQ(table.contains("d"), more);
    EXPECT_FALSE(table.contains("late"));
    const bool kept = table.contains("another");
    EXPECT_EQ(table.contains("a much longer key"), kept);
    if (status.ok()) {
      EXPECT_TRUE(kept);
    } else if (!absl::IsInternal(status) || more) {
      EXPECT_FALSE(kept);
    } else {
      ++(kept ? unknown_kept : unknown_lost);
    }
  }
  EXPECT_GT(unknown_kept, 0);
  EXPECT_GT(unknown_lost, 0);
}

// Whatever write of a commit fails, and what follows it while the disk is out of order: as many
// events are there afterwards as after the power went and came back.
TEST(SqliteOnDiskTest, WhatIsReadAfterACommitFailedSurvivesALossOfPower) {
  simulation::PutSqliteOnSimulatedDisks();
  int kept = 0;
  for (int i = 0; i < 120; ++i) {
    const int first = 1 + i / 3, count = 1 + i % 3;
    SCOPED_TRACE(absl::StrCat(count, " writes from the ", first, ". on"));
    World world("events/");
    const auto open = [&] {
      return *SqliteEventStore::Open({.path = absl::StrCat(world.disk.name(), "events.db")});
    };
    std::unique_ptr<SqliteEventStore> store = open();
    ASSERT_TRUE(store->Load().ok());
    scheduler::Harness harness;
    harness.Submit("a");
    world.disk.FailWrites(first, count);
    bool is_known = false;
    (void)store->Append(1, harness.log, &is_known);
    world.disk.FailWrites(0, 0);
    const auto read = store->Load();
    ASSERT_TRUE(read.ok()) << read.status();
    kept += read->events.empty() ? 0 : 1;

    world.disk.Crash();
    store.reset();
    world.disk.Restart(/*lost_power=*/true);
    const auto again = open()->Load();
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->events.size(), read->events.size());
  }
  EXPECT_GT(kept, 0);
}

}  // namespace
}  // namespace deltaworks::services

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
#include "tests/simulation/disk_blob_store.h"
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

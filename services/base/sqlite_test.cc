// What must hold of the database layer: what was committed is there after a reopen, what was not is
// not, and a locked, full, damaged or too new file is refused by name.

#include "services/base/sqlite.h"

#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kSteps[] = {"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)",
                                  "ALTER TABLE t ADD COLUMN data BLOB"};

std::string FreshPath(const std::string& name) {
  const std::string path = ::testing::TempDir() + "/" + name;
  for (const char* suffix : {"", "-wal", "-shm"}) unlink((path + suffix).c_str());
  return path;
}

std::unique_ptr<Database> MustOpen(const std::string& path, Database::Options options = {}) {
  auto database = Database::Open(path, options);
  EXPECT_TRUE(database.ok()) << database.status();
  EXPECT_TRUE((*database)->Migrate(kSteps).ok());
  return *std::move(database);
}

std::vector<std::string> Names(Database& database) {
  std::vector<std::string> names;
  auto rows = database.Query("SELECT name FROM t ORDER BY id");
  EXPECT_TRUE(rows.ok()) << rows.status();
  while (rows->Next()) names.push_back(rows->Text(0));
  EXPECT_TRUE(rows->status().ok()) << rows->status();
  return names;
}

TEST(SqliteTest, EveryTypeComesBackAsItWasBound) {
  auto database = MustOpen(FreshPath("types.db"));
  auto rows = database->Query("SELECT ?, ?, ?, ?, ?, ?",
                              {int64_t{1} << 40, 0.5, "text", SqlBlob{std::string("\0b", 2)},
                               nullptr, absl::string_view()});
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_TRUE(rows->Next());
  EXPECT_EQ(rows->Int64(0), int64_t{1} << 40);
  EXPECT_EQ(rows->Double(1), 0.5);
  EXPECT_EQ(rows->Text(2), "text");
  EXPECT_EQ(rows->Text(3), std::string("\0b", 2));
  EXPECT_TRUE(rows->IsNull(4));
  EXPECT_FALSE(rows->IsNull(5));
  EXPECT_EQ(rows->Text(5), "");
  EXPECT_FALSE(rows->Next());
}

TEST(SqliteTest, WhatWasCommittedIsThereAfterAReopenAndNothingElse) {
  const std::string path = FreshPath("commit.db");
  {
    auto database = MustOpen(path);
    auto kept = Transaction::Begin(*database);
    ASSERT_TRUE(kept.ok());
    ASSERT_TRUE(database->Run("INSERT INTO t (name) VALUES (?)", {"kept"}).ok());
    ASSERT_TRUE(kept->Commit().ok());
    auto dropped = Transaction::Begin(*database);
    ASSERT_TRUE(dropped.ok());
    ASSERT_TRUE(database->Run("INSERT INTO t (name) VALUES (?)", {"dropped"}).ok());
    EXPECT_EQ(database->changes(), 1);
  }
  EXPECT_THAT(Names(*MustOpen(path)), ElementsAre("kept"));
}

TEST(SqliteTest, ASecondValueForAUniqueColumnAlreadyExists) {
  auto database = MustOpen(FreshPath("unique.db"));
  ASSERT_TRUE(database->Run("INSERT INTO t (name) VALUES (?)", {"a"}).ok());
  const absl::Status status = database->Run("INSERT INTO t (name) VALUES (?)", {"a"});
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
}

TEST(SqliteTest, ASecondOpenIsToldThatTheDatabaseIsLocked) {
  const std::string path = FreshPath("locked.db");
  auto first = MustOpen(path);
  const auto second = Database::Open(path, {.busy_timeout_ms = 1});
  ASSERT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_EQ(second.status().message(), "database locked by another process: " + path);
}

TEST(SqliteTest, AnotherProcessIsKeptOutAndItsDeathFreesTheLock) {
  const std::string path = FreshPath("process.db");
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto database = Database::Open(path, {});
    const char byte = database.ok() ? 'y' : 'n';
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  EXPECT_TRUE(absl::IsFailedPrecondition(Database::Open(path, {.busy_timeout_ms = 1}).status()));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(Database::Open(path, {.busy_timeout_ms = 1}).ok());
}

TEST(SqliteTest, AFullDiskIsResourceExhaustedAndLosesNothing) {
  const std::string path = FreshPath("full.db");
  auto database = MustOpen(path, {.size_bytes_max = 64 << 10});
  ASSERT_TRUE(database->Run("INSERT INTO t (name) VALUES (?)", {"before"}).ok());
  const absl::Status status = database->Run("INSERT INTO t (name, data) VALUES (?, ?)",
                                            {"big", SqlBlob{std::string(1 << 20, 'x')}});
  ASSERT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("full.db: disk is full"));
  EXPECT_THAT(Names(*database), ElementsAre("before"));
  EXPECT_TRUE(database->Run("INSERT INTO t (name) VALUES (?)", {"small"}).ok());
}

TEST(SqliteTest, AFullDiskInATransactionRollsAllOfItBack) {
  auto database = MustOpen(FreshPath("full2.db"), {.size_bytes_max = 64 << 10});
  {
    auto transaction = Transaction::Begin(*database);
    ASSERT_TRUE(transaction.ok());
    ASSERT_TRUE(database->Run("INSERT INTO t (name) VALUES (?)", {"a"}).ok());
    EXPECT_FALSE(database
                     ->Run("INSERT INTO t (name, data) VALUES (?, ?)",
                           {"big", SqlBlob{std::string(1 << 20, 'x')}})
                     .ok());
  }
  EXPECT_FALSE(database->in_transaction());
  EXPECT_THAT(Names(*database), ElementsAre());
}

TEST(SqliteTest, MigrationsRunOnceEachAndANewerFileIsRefused) {
  const std::string path = FreshPath("migrate.db");
  {
    auto database = Database::Open(path, {});
    ASSERT_TRUE(database.ok());
    ASSERT_TRUE((*database)->Migrate(absl::MakeConstSpan(kSteps, 1)).ok());
    ASSERT_TRUE((*database)->Migrate(kSteps).ok());
    ASSERT_TRUE((*database)->Migrate(kSteps).ok());
  }
  auto database = Database::Open(path, {});
  ASSERT_TRUE(database.ok());
  const absl::Status status = (*database)->Migrate(absl::MakeConstSpan(kSteps, 1));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("schema version is 2, want at most 1"));
}

TEST(SqliteTest, AFailedMigrationLeavesTheVersionBefore) {
  auto database = Database::Open(FreshPath("bad_step.db"), {});
  ASSERT_TRUE(database.ok());
  const char* const steps[] = {"CREATE TABLE a (x); CREATE TABLE a (x)"};
  EXPECT_FALSE((*database)->Migrate(steps).ok());
  const char* const good[] = {"CREATE TABLE a (x)"};
  EXPECT_TRUE((*database)->Migrate(good).ok());
}

TEST(SqliteTest, AFileThatIsNoDatabaseIsDataLoss) {
  const std::string path = FreshPath("noise.db");
  ASSERT_TRUE(WriteFileAtomically(path, std::string(8192, 'x')).ok());
  const auto database = Database::Open(path, {});
  EXPECT_TRUE(absl::IsDataLoss(database.status())) << database.status();
}

TEST(SqliteTest, AFolderThatIsNotThereIsNamed) {
  const auto database = Database::Open(::testing::TempDir() + "/absent/x.db", {});
  ASSERT_TRUE(absl::IsFailedPrecondition(database.status())) << database.status();
  EXPECT_THAT(std::string(database.status().message()), HasSubstr("absent/x.db"));
}

}  // namespace
}  // namespace deltaworks::services

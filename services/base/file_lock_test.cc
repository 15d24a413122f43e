// Two workers of a node that held one lock would fetch one file, or train on one device, together.

#include "services/base/file_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

using ::testing::HasSubstr;

std::string Path(const std::string& name) { return ::testing::TempDir() + "/lock_" + name; }

TEST(FileLockTest, OneHoldsItUntilItIsGoneAndTheFileStays) {
  const std::string path = Path("one");
  {
    const auto first = FileLock::TryAcquire(path);
    ASSERT_TRUE(first.ok()) << first.status();
    const absl::Status second = FileLock::TryAcquire(path).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(second)) << second;
    EXPECT_THAT(second.message(), HasSubstr(path));
  }
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  EXPECT_TRUE(FileLock::TryAcquire(path).ok());
}

TEST(FileLockTest, AMovedLockIsHeldOnceAndFreedOnce) {
  const std::string path = Path("moved");
  auto first = FileLock::TryAcquire(path);
  ASSERT_TRUE(first.ok()) << first.status();
  {
    const FileLock moved = *std::move(first);
    EXPECT_GE(moved.fd(), 0);
    EXPECT_TRUE(absl::IsFailedPrecondition(FileLock::TryAcquire(path).status()));
  }
  EXPECT_TRUE(FileLock::TryAcquire(path).ok());
}

TEST(FileLockTest, AProcessThatDiesWithoutUnlockingLeavesItFree) {
  const std::string path = Path("process");
  int held[2], die[2];
  ASSERT_EQ(pipe(held), 0);
  ASSERT_EQ(pipe(die), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  char byte = 0;
  if (child == 0) {
    const auto lock = FileLock::TryAcquire(path);
    byte = lock.ok() ? 'y' : 'n';
    if (write(held[1], &byte, 1) == 1 && read(die[0], &byte, 1) == 1) _exit(0);
    _exit(1);
  }
  ASSERT_EQ(read(held[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'y');
  EXPECT_TRUE(absl::IsFailedPrecondition(FileLock::TryAcquire(path).status()));
  ASSERT_EQ(write(die[1], &byte, 1), 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(FileLock::TryAcquire(path).ok());
}

TEST(FileLockTest, AFolderThatIsNotThereIsNamed) {
  const absl::Status status = FileLock::TryAcquire(Path("none") + "/x/lock").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("/x/lock"));
}

}  // namespace
}  // namespace deltaworks::services

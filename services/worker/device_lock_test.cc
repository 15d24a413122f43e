// Two workers on one device would train on each other's memory, and a restarted worker that is not
// known as a new one would be taken for the old.

#include "services/worker/device_lock.h"

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/base/file.h"

namespace deltaworks::services {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

std::string Folder(const std::string& name) { return ::testing::TempDir() + "/locks_" + name; }

TEST(DeviceLockTest, ASecondWorkerOnADeviceIsRefusedWithWhatToDo) {
  const std::string folder = Folder("second");
  const auto first = DeviceLock::Acquire(folder, "cpu:0", kNow);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = DeviceLock::Acquire(folder, "cpu:0", kNow);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status()));
  EXPECT_THAT(second.status().message(), AllOf(HasSubstr("device cpu:0 belongs to another worker"),
                                               HasSubstr("cpu-0.lock"), HasSubstr("--device")));
}

TEST(DeviceLockTest, DevicesOfAMachineAreLockedOneByOne) {
  const std::string folder = Folder("devices");
  const auto first = DeviceLock::Acquire(folder, "cpu:0", kNow);
  const auto second = DeviceLock::Acquire(folder, "cpu:1", kNow);
  EXPECT_TRUE(first.ok() && second.ok());
}

TEST(DeviceLockTest, EveryNewProcessHasALargerIncarnation) {
  const std::string folder = Folder("incarnation");
  int64_t last = 0;
  for (int i = 0; i < 5; ++i) {
    // The wall clock may even go back.
    const auto lock = DeviceLock::Acquire(folder, "cpu:0", kNow - absl::Hours(i));
    ASSERT_TRUE(lock.ok()) << lock.status();
    EXPECT_GT(lock->incarnation(), last);
    last = lock->incarnation();
  }
}

TEST(DeviceLockTest, ALostOrDamagedCounterDoesNotFallBehind) {
  const std::string folder = Folder("lost");
  const int64_t before = DeviceLock::Acquire(folder, "cpu:0", kNow)->incarnation();
  ASSERT_TRUE(WriteFileAtomically(folder + "/cpu-0.lock", "rubbish").ok());
  const auto after = DeviceLock::Acquire(folder, "cpu:0", kNow + absl::Seconds(1));
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_GT(after->incarnation(), before);
}

TEST(DeviceLockTest, AWorkerIsNamedByMachineAndDevice) {
  EXPECT_EQ(*WorkerName("AB12", "cpu:3"), "workers/ab12-cpu-3");
  EXPECT_THAT(WorkerName("ab12", "gpu").status().message(), HasSubstr("device is \"gpu\""));
  EXPECT_THAT(WorkerName("-x", "cpu:0").status().message(), HasSubstr("machine_id is \"-x\""));
}

}  // namespace
}  // namespace deltaworks::services

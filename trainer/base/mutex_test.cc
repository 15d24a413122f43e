// Run under --config=tsan these tests prove that the annotations hide no lock from TSan.

#include "trainer/base/mutex.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace deltaworks {
namespace {

TEST(MutexTest, CountsOfManyThreadsAddUp) {
  Mutex mutex;
  int count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 1000; ++j) {
        MutexLock lock(&mutex);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, 4000);
}

TEST(CondVarTest, AWaiterSeesWhatTheSignallerWrote) {
  Mutex mutex;
  CondVar changed;
  int value = 0;
  std::thread writer([&] {
    MutexLock lock(&mutex);
    value = 7;
    changed.Signal();
  });
  {
    MutexLock lock(&mutex);
    while (value == 0) changed.Wait(&mutex);
    EXPECT_EQ(value, 7);
  }
  writer.join();
}

TEST(CondVarTest, AWaitWithoutASignalTimesOut) {
  Mutex mutex;
  CondVar changed;
  MutexLock lock(&mutex);
  // A spurious wake-up returns false, so the loop asks again.
  bool timed_out = false;
  while (!timed_out) timed_out = changed.WaitWithTimeout(&mutex, absl::Milliseconds(1));
  EXPECT_TRUE(timed_out);
}

}  // namespace
}  // namespace deltaworks

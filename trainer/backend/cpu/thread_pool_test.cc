// Run under --config=tsan these tests also prove that what tasks write is visible to the caller.

#include "trainer/backend/cpu/thread_pool.h"

#include <immintrin.h>
#include <sched.h>

#include <set>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

TEST(ThreadPoolTest, EachTaskRunsOnceWhateverTheNumberOfThreads) {
  for (const int threads : {1, 2, 3, 8}) {
    auto pool = ThreadPool::Create(threads, {});
    ASSERT_TRUE(pool.ok()) << pool.status();
    EXPECT_EQ((*pool)->threads(), threads);
    for (const int64_t tasks : {0, 1, 2, 7, 100, 1000}) {
      std::vector<int> runs(tasks);
      (*pool)->ParallelFor(tasks, [&](int64_t task, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, threads);
        ++runs[task];
      });
      EXPECT_EQ(runs, std::vector<int>(tasks, 1));
    }
  }
}

// Thousands of short loops in a row: a worker that wakes late finds another loop than it slept for.
TEST(ThreadPoolTest, LoopsThatFollowEachOtherDoNotMix) {
  auto pool = ThreadPool::Create(3, {});
  ASSERT_TRUE(pool.ok()) << pool.status();
  std::vector<int64_t> sums(8);
  for (int64_t loop = 0; loop < 5000; ++loop) {
    (*pool)->ParallelFor(1 + loop % 8, [&](int64_t task, int) { sums[task] += loop; });
  }
  for (int64_t task = 0; task < 8; ++task) {
    int64_t expected = 0;
    for (int64_t loop = 0; loop < 5000; ++loop) expected += task <= loop % 8 ? loop : 0;
    EXPECT_EQ(sums[task], expected) << "task " << task;
  }
}

TEST(ThreadPoolTest, TasksSeeTheDefaultFloatMode) {
  const uint32_t mode_before = _mm_getcsr();
  _mm_setcsr(mode_before | 0x8040);  // Flush denormals, as some callers' libraries do.
  auto pool = ThreadPool::Create(4, {});
  ASSERT_TRUE(pool.ok()) << pool.status();
  (*pool)->ParallelFor(64, [&](int64_t, int) { EXPECT_EQ(_mm_getcsr() & 0xffc0, 0x1f80u); });
  EXPECT_EQ(_mm_getcsr() & 0x8040, 0x8040u);
  _mm_setcsr(mode_before);
}

TEST(ThreadPoolTest, StartedThreadsStayOnTheirCores) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  int core = 0;
  while (!CPU_ISSET(core, &allowed)) ++core;
  auto pool = ThreadPool::Create(3, {core});
  ASSERT_TRUE(pool.ok()) << pool.status();
  (*pool)->ParallelFor(64, [&](int64_t, int worker) {
    cpu_set_t own;
    CPU_ZERO(&own);
    ASSERT_EQ(sched_getaffinity(0, sizeof(own), &own), 0);
    if (worker != 0) {
      EXPECT_EQ(CPU_COUNT(&own), 1);
      EXPECT_TRUE(CPU_ISSET(core, &own));
    }
  });
}

TEST(ThreadPoolTest, ImpossibleSettingsAreRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(ThreadPool::Create(0, {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ThreadPool::Create(1, {-1}).status()));
  const auto absent = ThreadPool::Create(1, {CPU_SETSIZE});
  EXPECT_TRUE(absl::IsInvalidArgument(absent.status()));
  EXPECT_EQ(absent.status().message(), "core is 1024, want one that this process may use");
}

}  // namespace
}  // namespace deltaworks::trainer

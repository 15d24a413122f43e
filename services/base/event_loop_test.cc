// An event loop is right if nothing runs early, twice or out of order, and if a fake clock moves it
// exactly as a real one would.

#include "services/base/event_loop.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::services {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FakeEventLoopTest : public ::testing::Test {
 protected:
  EventLoop::Task Note(std::string what) {
    return [this, what] { ran_.push_back(what); };
  }
  FakeClock clock_;
  FakeEventLoop loop_{clock_};
  std::vector<std::string> ran_;
};

TEST_F(FakeEventLoopTest, NothingRunsUntilTold) {
  loop_.Post(Note("a"));
  EXPECT_THAT(ran_, IsEmpty());
  EXPECT_EQ(loop_.RunReady(), 1);
  EXPECT_THAT(ran_, ElementsAre("a"));
}

TEST_F(FakeEventLoopTest, TimersRunByDeadlineThenByOrderOfArming) {
  loop_.PostAfter(absl::Seconds(2), Note("late"));
  loop_.PostAfter(absl::Seconds(1), Note("first"));
  loop_.PostAfter(absl::Seconds(1), Note("second"));
  loop_.Advance(absl::Seconds(3));
  EXPECT_THAT(ran_, ElementsAre("first", "second", "late"));
}

TEST_F(FakeEventLoopTest, ATimerRunsAtItsDeadlineAndNotBefore) {
  loop_.PostAfter(absl::Seconds(1), Note("timer"));
  loop_.Advance(absl::Seconds(1) - absl::Nanoseconds(1));
  EXPECT_THAT(ran_, IsEmpty());
  loop_.Advance(absl::Nanoseconds(1));
  EXPECT_THAT(ran_, ElementsAre("timer"));
}

TEST_F(FakeEventLoopTest, ARepeatingTimerSeesTheClockAtEachOfItsDeadlines) {
  std::vector<absl::Duration> times;
  const absl::Duration start = clock_.Monotonic();
  std::function<void()> tick = [&] {
    times.push_back(clock_.Monotonic() - start);
    loop_.PostAfter(absl::Seconds(10), tick);
  };
  loop_.PostAfter(absl::Seconds(10), tick);
  loop_.Advance(absl::Seconds(35));
  EXPECT_THAT(times, ElementsAre(absl::Seconds(10), absl::Seconds(20), absl::Seconds(30)));
  EXPECT_EQ(clock_.Monotonic() - start, absl::Seconds(35));
}

TEST_F(FakeEventLoopTest, ACancelledTimerDoesNotRun) {
  const EventLoop::TimerId timer = loop_.PostAfter(absl::Seconds(1), Note("no"));
  loop_.Cancel(timer);
  loop_.Cancel(timer);
  loop_.Advance(absl::Seconds(2));
  EXPECT_THAT(ran_, IsEmpty());
}

TEST_F(FakeEventLoopTest, TheWallClockMayJumpWithoutMovingTimers) {
  loop_.PostAfter(absl::Seconds(5), Note("timer"));
  clock_.SetNow(clock_.Now() + absl::Hours(24));
  loop_.RunReady();
  EXPECT_THAT(ran_, IsEmpty());
}

TEST(RealEventLoopTest, RunsTasksInOrderOnOneThread) {
  Mutex mutex;
  CondVar done;
  std::vector<int> ran;
  RealEventLoop loop;
  for (int i = 0; i < 1000; ++i) {
    loop.Post([&, i] {
      MutexLock lock(&mutex);
      ran.push_back(i);
      done.Signal();
    });
  }
  MutexLock lock(&mutex);
  while (ran.size() < 1000) done.Wait(&mutex);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(ran[i], i);
}

TEST(RealEventLoopTest, ATimerComesAfterItsDelay) {
  Mutex mutex;
  CondVar done;
  absl::Duration came = absl::ZeroDuration();
  RealEventLoop loop;
  const absl::Duration start = RealClock().Monotonic();
  loop.PostAfter(absl::Milliseconds(20), [&] {
    MutexLock lock(&mutex);
    came = RealClock().Monotonic();
    done.Signal();
  });
  MutexLock lock(&mutex);
  while (came == absl::ZeroDuration()) done.Wait(&mutex);
  EXPECT_GE(came - start, absl::Milliseconds(20));
}

TEST(RealEventLoopTest, EndsWithTimersStillArmed) {
  bool ran = false;
  {
    RealEventLoop loop;
    loop.PostAfter(absl::Hours(1), [&] { ran = true; });
    EXPECT_EQ(loop.queued(), 1);
  }
  EXPECT_FALSE(ran);
}

TEST(RealClockTest, TimeGoesOnAndNeverBack) {
  const absl::Duration a = RealClock().Monotonic();
  const absl::Duration b = RealClock().Monotonic();
  EXPECT_LE(a, b);
  EXPECT_GT(RealClock().Now(), absl::FromUnixSeconds(1'600'000'000));
}

}  // namespace
}  // namespace deltaworks::services

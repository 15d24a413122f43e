// HookClock and Gate: how a test holds the engine where it wants it, without sleeping. The engine
// reads its clock before every pass and at every token, on its own thread.

#ifndef DELTAWORKS_SERVICES_INFERENCE_TESTING_HOOK_CLOCK_H_
#define DELTAWORKS_SERVICES_INFERENCE_TESTING_HOOK_CLOCK_H_

#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "services/base/clock.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

// Closed until somebody opens it, for good. Thread-safe.
class Gate {
 public:
  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    changed_.SignalAll();
  }
  // Fails the test, and is open, if nobody opens it for ten seconds.
  void Await() {
    const absl::Time end = absl::Now() + absl::Seconds(10);
    MutexLock lock(&mutex_);
    while (!open_) {
      changed_.WaitWithTimeout(&mutex_, absl::Seconds(1));
      if (absl::Now() < end) continue;
      ADD_FAILURE() << "nobody opens the gate";
      open_ = true;
    }
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
};

// The real time; runs `hook`, which is set while the engine is idle, whenever somebody looks at the
// monotonic clock, on his thread.
class HookClock final : public Clock {
 public:
  absl::Time Now() const override { return RealClock().Now(); }
  absl::Duration Monotonic() const override {
    if (hook) hook();
    return RealClock().Monotonic();
  }
  std::function<void()> hook;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_TESTING_HOOK_CLOCK_H_

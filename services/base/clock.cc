#include "services/base/clock.h"

#include <time.h>

#include "absl/time/clock.h"
#include "glog/logging.h"

namespace deltaworks::services {
namespace {

class MachineClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
  absl::Duration Monotonic() const override {
    timespec now;
    CHECK_EQ(clock_gettime(CLOCK_BOOTTIME, &now), 0);
    return absl::DurationFromTimespec(now);
  }
};

}  // namespace

const Clock& RealClock() {
  static const MachineClock clock;
  return clock;
}

absl::Time FakeClock::Now() const {
  MutexLock lock(&mutex_);
  return now_;
}

absl::Duration FakeClock::Monotonic() const {
  MutexLock lock(&mutex_);
  return monotonic_;
}

void FakeClock::Advance(absl::Duration step) {
  CHECK_GE(step, absl::ZeroDuration());
  MutexLock lock(&mutex_);
  now_ += step;
  monotonic_ += step;
}

void FakeClock::SetNow(absl::Time now) {
  MutexLock lock(&mutex_);
  now_ = now;
}

}  // namespace deltaworks::services

// Clock: the only door to time. Code that decides anything takes a Clock, so that a test, or the
// simulator, owns the time.
//
//   Now()        the wall clock: for people, files and certificates. It may jump.
//   Monotonic()  time since some fixed moment, on CLOCK_BOOTTIME: never goes back, and counts the
//                time a machine was asleep, because a lease goes on meanwhile.
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_CLOCK_H_
#define DELTAWORKS_SERVICES_BASE_CLOCK_H_

#include "absl/time/time.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
  virtual absl::Duration Monotonic() const = 0;
};

// The machine's clock. Lives as long as the process.
const Clock& RealClock();

// Moves only when told. Begins at 2024-01-01 00:00 UTC and monotonic 1000 s.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override;
  absl::Duration Monotonic() const override;

  // Both clocks go on. `step` must not be negative.
  void Advance(absl::Duration step);
  // Only the wall clock jumps.
  void SetNow(absl::Time now);

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'704'067'200);
  absl::Duration monotonic_ ABSL_GUARDED_BY(mutex_) = absl::Seconds(1000);
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_CLOCK_H_

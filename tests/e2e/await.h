// Waiting for what another process does. There is nothing to be notified by, so it is looked at
// again and again; every wait has an end. Plain functions, thread-safe.

#ifndef DELTAWORKS_TESTS_E2E_AWAIT_H_
#define DELTAWORKS_TESTS_E2E_AWAIT_H_

#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace deltaworks::e2e {

// For things that should take a second or two, on a machine that is busy with other tests.
inline constexpr absl::Duration kPatience = absl::Seconds(60);

// Looks at `condition` until it is true. False if it was not within `timeout`.
inline bool Await(absl::Duration timeout, const std::function<bool()>& condition,
                  absl::Duration interval = absl::Milliseconds(10)) {
  const absl::Time end = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(interval);
  }
  return true;
}

}  // namespace deltaworks::e2e

#endif  // DELTAWORKS_TESTS_E2E_AWAIT_H_

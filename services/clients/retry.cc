#include "services/clients/retry.h"

#include <algorithm>

#include "absl/random/random.h"
#include "absl/time/clock.h"
#include "services/base/clock.h"

namespace deltaworks::services {

RetryState::RetryState(const RetryPolicy& policy) : policy_(policy) { Progressed(); }

absl::Duration RetryState::Now() const {
  return policy_.monotonic != nullptr ? policy_.monotonic() : RealClock().Monotonic();
}

void RetryState::Progressed() {
  end_ = Now() + policy_.total_max;
  wait_ = policy_.first_wait;
}

bool RetryState::Pause() {
  absl::BitGen random;
  const absl::Duration pause = wait_ * absl::Uniform(random, 0.8, 1.0);
  if (Now() + pause >= end_) return false;
  if (policy_.sleep != nullptr) {
    policy_.sleep(pause);
  } else {
    absl::SleepFor(pause);
  }
  wait_ = std::min(2 * wait_, policy_.wait_max);
  return true;
}

absl::Status CallWithRetry(const RetryPolicy& policy,
                           const std::function<absl::Status()>& attempt) {
  RetryState state(policy);
  while (true) {
    absl::Status status = attempt();
    if (!absl::IsUnavailable(status) || !state.Pause()) return status;
  }
}

}  // namespace deltaworks::services

// Retrying calls: UNAVAILABLE only, with the same request, for a bounded time.
//
// UNAVAILABLE means that the outcome is unknown or the server is starting. Every mutating request
// carries a request_id, so repeating it is safe; everything else the server meant to say.
// CallWithRetry is thread-safe; a RetryState belongs to one transfer.

#ifndef DELTAWORKS_SERVICES_CLIENTS_RETRY_H_
#define DELTAWORKS_SERVICES_CLIENTS_RETRY_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace deltaworks::services {

struct RetryPolicy {
  // Waits grow by 2 from the first to the largest, each shortened by up to a fifth at random, so
  // that many clients of a restarted server do not come at once.
  absl::Duration first_wait = absl::Milliseconds(50);
  absl::Duration wait_max = absl::Seconds(2);
  // From the first call on; no call begins later. Zero: one call only.
  absl::Duration total_max = absl::Seconds(30);
  // Seams for tests. Null: absl::SleepFor and RealClock().
  std::function<void(absl::Duration)> sleep;
  std::function<absl::Duration()> monotonic;
};

// The waits of one call or transfer. The policy must outlive it.
class RetryState {
 public:
  explicit RetryState(const RetryPolicy& policy);

  // Waits before the next attempt. False, without waiting, if time is up.
  bool Pause();

  // Something got through: waits and time begin anew.
  void Progressed();

 private:
  absl::Duration Now() const;

  const RetryPolicy& policy_;
  absl::Duration end_;
  absl::Duration wait_;
};

// Calls `attempt` until it returns something other than Unavailable or time is up; returns its last
// answer.
absl::Status CallWithRetry(const RetryPolicy& policy, const std::function<absl::Status()>& attempt);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_RETRY_H_

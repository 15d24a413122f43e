// MonotonicNow: for deadlines. Unlike absl::Now() it does not jump when somebody sets the clock;
// its zero means nothing.

#ifndef DELTAWORKS_TRAINER_COMM_MONOTONIC_H_
#define DELTAWORKS_TRAINER_COMM_MONOTONIC_H_

#include <chrono>

#include "absl/time/time.h"

namespace deltaworks::trainer {

inline absl::Time MonotonicNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_MONOTONIC_H_

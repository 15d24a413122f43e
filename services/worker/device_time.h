// How the time of a pass is shared among the jobs that took part: by the FLOPs of each. By token, 2
// for each weight of a forward pass, 2 for a gradient of its input, 2 for a gradient of its own:
// the frozen base has the first two, an adapter all three, and a job that evaluates the first only.
// Plain function, thread-safe.

#ifndef DELTAWORKS_SERVICES_WORKER_DEVICE_TIME_H_
#define DELTAWORKS_SERVICES_WORKER_DEVICE_TIME_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"

namespace deltaworks::services {

// What a job gave to a pass.
struct PassPart {
  int64_t tokens = 0;
  int64_t trainable_parameters = 0;
  bool evaluated = false;
};

// One for each part, in whole nanoseconds that add up to those of `pass`.
std::vector<absl::Duration> DeviceTimeShares(absl::Duration pass, int64_t base_parameters,
                                             absl::Span<const PassPart> parts);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_DEVICE_TIME_H_

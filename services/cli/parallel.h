// RunParallel: the same work for many items on a bounded number of threads.

#ifndef DELTAWORKS_SERVICES_CLI_PARALLEL_H_
#define DELTAWORKS_SERVICES_CLI_PARALLEL_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"

namespace deltaworks::services {

// Calls work(i) for each i in [0, count), on at most `threads_max` threads at a time, and waits for
// all. After an error no further item is begun; of several errors the one of the least i is
// returned. `work` must be thread-safe.
absl::Status RunParallel(int64_t count, int64_t threads_max,
                         const std::function<absl::Status(int64_t)>& work);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_PARALLEL_H_

// Asks a server's gRPC health service; needs no token. For supervisors and tests. Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_HEALTH_CHECK_H_
#define DELTAWORKS_SERVICES_BASE_HEALTH_CHECK_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace grpc {
class Channel;
}

namespace deltaworks::services {

// OK if the server says SERVING; Unavailable if it says otherwise or cannot be reached.
absl::Status CheckHealth(const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_HEALTH_CHECK_H_

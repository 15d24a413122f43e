// absl::Status <-> grpc::Status: the codes are the same numbers.
//
// Messages are cut to 7,500 bytes, because gRPC sends them in trailers of at most 8 KiB and drops
// the whole answer beyond. Thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_STATUS_CONVERSION_H_
#define DELTAWORKS_SERVICES_BASE_STATUS_CONVERSION_H_

#include "absl/status/status.h"

namespace grpc {
class Status;
}

namespace deltaworks::services {

grpc::Status ToGrpcStatus(const absl::Status& status);

// An error keeps its code and message; `context`, if not empty, begins the message.
absl::Status FromGrpcStatus(const grpc::Status& status, absl::string_view context = "");

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_STATUS_CONVERSION_H_

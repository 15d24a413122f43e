// Listen addresses: checks and clear errors. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_BASE_ADDRESS_H_
#define DELTAWORKS_SERVICES_BASE_ADDRESS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace deltaworks::services {

struct HostPort {
  std::string host;  // Without brackets.
  int port = 0;
};

// "127.0.0.1:50051", "localhost:0", "[::1]:50051". InvalidArgument names `field`.
absl::StatusOr<HostPort> ParseHostPort(absl::string_view field, absl::string_view address);
std::string FormatHostPort(const HostPort& address);

// InvalidArgument for what is no numeric address with a port ("localhost" is).
absl::Status CheckListenAddress(absl::string_view field, absl::string_view address);

// True for 127.0.0.0/8, ::1 and "localhost".
bool IsLoopback(absl::string_view host);

// Why nobody could listen at `address`, found out by trying: FailedPrecondition, "address is
// 127.0.0.1:80: in use by another process; stop it or choose another".
absl::Status ListenError(absl::string_view field, absl::string_view address);

// Connects and closes at once, to wake a server that waits for connections. Ignores errors.
void TouchListener(const HostPort& address);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_ADDRESS_H_

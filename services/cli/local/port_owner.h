// Who has a port, so that "in use" comes with a name. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_PORT_OWNER_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_PORT_OWNER_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace deltaworks::services {

// "process 4711 (python3 -m http.server)" that listens on TCP `port`; nullopt if there is none or
// this user may not see it.
std::optional<std::string> ListenerOfPort(int port);

// OK if `address` ("127.0.0.1:7001") can be listened on; port 0 always can. FailedPrecondition:
// "the store's address 127.0.0.1:7002 is in use by process 4711 (...)" and what to do; `what` is
// "the store's address".
absl::Status CheckPortIsFree(absl::string_view what, const std::string& address);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_PORT_OWNER_H_

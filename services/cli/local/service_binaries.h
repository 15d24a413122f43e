// Where the programs of the services are, seen from `dw`. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_SERVICE_BINARIES_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_SERVICE_BINARIES_H_

#include <string>

#include "absl/status/statusor.h"

namespace deltaworks::services {

// The path of this program.
absl::StatusOr<std::string> OwnBinary();

// The program of `service`: in `folder` if that is not empty; else beside `own_binary` (an
// installed bin folder), or in ../SERVICE/ of it (Bazel's output). NotFound names every place
// tried.
absl::StatusOr<std::string> FindServiceBinary(const std::string& service, const std::string& folder,
                                              const std::string& own_binary);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_SERVICE_BINARIES_H_

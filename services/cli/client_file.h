// The client file, dw.json: where a platform is. `dw up` writes it; a person may write one for a
// platform elsewhere.
//
//   {"scheduler": "HOST:PORT", "store": "...", "registry": "...", "inference": "...",
//    "token_file": "PATH", "operator_token_file": "PATH", "tokens_file": "PATH"}
//
// Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_CLIENT_FILE_H_
#define DELTAWORKS_SERVICES_CLI_CLIENT_FILE_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/cli/platform.h"

namespace deltaworks::services {

// Value of an environment variable; empty if it is not set.
using Environment = std::function<std::string(const std::string& name)>;

// Completes `given` (what flags said): empty fields are taken from the environment
// (DELTAWORKS_HOME, DELTAWORKS_SCHEDULER, DELTAWORKS_STORE, DELTAWORKS_REGISTRY,
// DELTAWORKS_INFERENCE, DELTAWORKS_TOKEN_FILE, DELTAWORKS_OPERATOR_TOKEN_FILE,
// DELTAWORKS_TOKENS_FILE), then from the client file: `config` if that is not empty, else dw.json
// in the home, which need not exist. The home stays empty if nobody said one and HOME is not set.
// Errors: NotFound (`config`), InvalidArgument (the file, a field).
absl::StatusOr<PlatformSettings> ResolveSettings(PlatformSettings given, const std::string& config,
                                                 const Environment& environment);

// For what works in the home: InvalidArgument, with what to set, if it is empty.
absl::Status CheckHome(const std::string& home);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_CLIENT_FILE_H_

// What up, down, status and supervise share: the lock of a home, its state, running it.
//
// The lock file is the truth about "does it run": the supervisor and all of its processes hold it.
// state.json tells the rest. Plain functions, one thread.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_LOCAL_PLATFORM_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_LOCAL_PLATFORM_H_

#include <functional>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/cli/command.h"
#include "services/cli/local/platform_layout.h"
#include "services/cli/local/platform_state.h"
#include "services/cli/local/state_output.h"
#include "services/cli/local/up_options.h"

namespace deltaworks::services {

// Whether a process of the platform lives. An error where that cannot be told.
absl::StatusOr<bool> IsLocked(const PlatformLayout& layout);

// Runs the platform in this process until it is told to stop (supervisor.h). `state` gets how it
// ended. AlreadyExists: another supervisor has the home.
absl::Status RunPlatform(const UpOptions& options, const PlatformLayout& layout,
                         std::function<void(const PlatformState&)> changed, CommandContext& context,
                         PlatformState* state);

// The report of a supervisor that lives, without jobs: asks every process that is up how it is,
// over gRPC, a second at most each.
PlatformReport AskPlatform(const PlatformState& state);

// The end of a process' log since its last start.
void PrintLogTail(const std::string& log_file, std::ostream& err);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_LOCAL_PLATFORM_H_

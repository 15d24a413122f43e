// A platform's state for people and for programs. Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_STATE_OUTPUT_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_STATE_OUTPUT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "services/cli/command.h"
#include "services/cli/local/platform_layout.h"
#include "services/cli/local/platform_state.h"

namespace deltaworks::services {

inline constexpr char kServing[] = "serving";

struct JobCounts {
  int64_t running = 0;  // On a worker: RUNNING, PAUSING, CANCELLING.
  int64_t waiting = 0;  // QUEUED, VALIDATING, FINALIZING.
};

struct PlatformReport {
  // "up", "starting", "stopping", "failed", "down".
  std::string phase;
  std::string error;
  PlatformState state;
  // By process: kServing, or why not.
  std::map<std::string, std::string> health;
  // nullopt: nobody answered.
  std::optional<JobCounts> jobs;
};

// One document, or a table and a few lines.
void PrintReport(const PlatformLayout& layout, const PlatformReport& report,
                 CommandContext& context);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_STATE_OUTPUT_H_

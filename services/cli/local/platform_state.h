// PlatformState: what the supervisor says about itself and its processes, in run/state.json.
//
// Written whole at every change, so a reader sees one moment. The file outlives a supervisor that
// was killed: IsAlive() tells whether the one that wrote it still runs. Values; thread-compatible.

#ifndef DELTAWORKS_SERVICES_CLI_LOCAL_PLATFORM_STATE_H_
#define DELTAWORKS_SERVICES_CLI_LOCAL_PLATFORM_STATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace deltaworks::services {

enum class PlatformPhase { kStarting, kUp, kStopping, kStopped, kFailed };
enum class ProcessPhase { kWaiting, kStarting, kUp, kRestarting, kFailed, kStopped };

std::string NameOf(PlatformPhase phase);  // "starting"
std::string NameOf(ProcessPhase phase);

struct ProcessState {
  std::string name;
  ProcessPhase phase = ProcessPhase::kWaiting;
  int64_t pid = 0;      // 0: none.
  std::string address;  // Empty until it listens.
  std::string metrics_address;
  int64_t restarts = 0;
  absl::Time start_time = absl::UnixEpoch();  // Of the last start; the epoch: never.
  std::string last_exit;                      // "exit code 3"; empty: it never ended.
  std::string log_file;
};

struct PlatformState {
  PlatformPhase phase = PlatformPhase::kStarting;
  int64_t supervisor_pid = 0;
  // Of that process, in clock ticks since the machine's boot: a number used again is another one.
  int64_t supervisor_start_ticks = 0;
  absl::Time start_time = absl::UnixEpoch();
  // Why it failed, and the process to look at, if it is one's fault.
  std::string error;
  std::string failed_process;
  std::vector<ProcessState> processes;
};

absl::Status WritePlatformState(const std::string& path, const PlatformState& state);
// NotFound: nothing ever ran there. InvalidArgument: the file is damaged; names the field.
absl::StatusOr<PlatformState> ReadPlatformState(const std::string& path);

// Start of process `pid` in ticks, as in supervisor_start_ticks; 0 if there is none.
int64_t StartTicksOf(int64_t pid);
// Whether the supervisor that wrote `state` still runs.
bool IsAlive(const PlatformState& state);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_LOCAL_PLATFORM_STATE_H_

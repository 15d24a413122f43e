#include "services/cli/local/platform_state.h"

#include <array>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr std::array kPlatformPhases = {"starting", "up", "stopping", "stopped", "failed"};
constexpr std::array kProcessPhases = {"waiting",    "starting", "up",
                                       "restarting", "failed",   "stopped"};
constexpr int64_t kStateBytesMax = 1 << 20;

// The place of `name` among `names`, as an enum.
template <typename Phase, typename Names>
absl::StatusOr<Phase> PhaseNamed(const std::string& name, const Names& names,
                                 const std::string& path) {
  for (size_t i = 0; i < names.size(); ++i) {
    if (name == names[i]) return static_cast<Phase>(i);
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": phase is \"", name, "\""));
}

Json ToJson(const ProcessState& process) {
  return Json{{"name", process.name},
              {"phase", NameOf(process.phase)},
              {"pid", process.pid},
              {"address", process.address},
              {"metrics_address", process.metrics_address},
              {"restarts", process.restarts},
              {"start_time_ms", absl::ToUnixMillis(process.start_time)},
              {"last_exit", process.last_exit},
              {"log_file", process.log_file}};
}

absl::StatusOr<ProcessState> ProcessFromJson(const Json& json, const std::string& path) {
  ProcessState process;
  DW_ASSIGN_OR_RETURN(process.name, JsonString(json, "name", path));
  DW_ASSIGN_OR_RETURN(const std::string phase, JsonString(json, "phase", path));
  DW_ASSIGN_OR_RETURN(process.phase, PhaseNamed<ProcessPhase>(phase, kProcessPhases, path));
  DW_ASSIGN_OR_RETURN(process.pid, JsonInt(json, "pid", path));
  DW_ASSIGN_OR_RETURN(process.address, JsonString(json, "address", path));
  DW_ASSIGN_OR_RETURN(process.metrics_address, JsonString(json, "metrics_address", path));
  DW_ASSIGN_OR_RETURN(process.restarts, JsonInt(json, "restarts", path));
  DW_ASSIGN_OR_RETURN(const int64_t start_ms, JsonInt(json, "start_time_ms", path));
  process.start_time = absl::FromUnixMillis(start_ms);
  DW_ASSIGN_OR_RETURN(process.last_exit, JsonString(json, "last_exit", path));
  DW_ASSIGN_OR_RETURN(process.log_file, JsonString(json, "log_file", path));
  return process;
}

}  // namespace

std::string NameOf(PlatformPhase phase) { return kPlatformPhases[static_cast<size_t>(phase)]; }
std::string NameOf(ProcessPhase phase) { return kProcessPhases[static_cast<size_t>(phase)]; }

absl::Status WritePlatformState(const std::string& path, const PlatformState& state) {
  Json json = {{"phase", NameOf(state.phase)},
               {"supervisor_pid", state.supervisor_pid},
               {"supervisor_start_ticks", state.supervisor_start_ticks},
               {"start_time_ms", absl::ToUnixMillis(state.start_time)},
               {"error", state.error},
               {"failed_process", state.failed_process},
               {"processes", Json::array()}};
  for (const ProcessState& process : state.processes) json["processes"].push_back(ToJson(process));
  return WriteFileAtomically(path, JsonText(json, 1) + "\n");
}

absl::StatusOr<PlatformState> ReadPlatformState(const std::string& path) {
  DW_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kStateBytesMax));
  DW_ASSIGN_OR_RETURN(const Json json, ParseJson(text, path));
  PlatformState state;
  DW_ASSIGN_OR_RETURN(const std::string phase, JsonString(json, "phase", path));
  DW_ASSIGN_OR_RETURN(state.phase, PhaseNamed<PlatformPhase>(phase, kPlatformPhases, path));
  DW_ASSIGN_OR_RETURN(state.supervisor_pid, JsonInt(json, "supervisor_pid", path));
  DW_ASSIGN_OR_RETURN(state.supervisor_start_ticks, JsonInt(json, "supervisor_start_ticks", path));
  DW_ASSIGN_OR_RETURN(const int64_t start_ms, JsonInt(json, "start_time_ms", path));
  state.start_time = absl::FromUnixMillis(start_ms);
  DW_ASSIGN_OR_RETURN(state.error, JsonString(json, "error", path));
  DW_ASSIGN_OR_RETURN(state.failed_process, JsonString(json, "failed_process", path));
  if (!json.contains("processes") || !json["processes"].is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": processes is absent, want a list"));
  }
  for (const Json& item : json["processes"]) {
    DW_ASSIGN_OR_RETURN(ProcessState process, ProcessFromJson(item, path));
    state.processes.push_back(std::move(process));
  }
  return state;
}

int64_t StartTicksOf(int64_t pid) {
  const absl::StatusOr<std::string> text = ReadFile(absl::StrCat("/proc/", pid, "/stat"), 4096);
  if (!text.ok()) return 0;
  // "pid (command) state ppid ...": the command may hold anything, so count from its last bracket;
  // the start is field 22, the state field 3.
  const size_t bracket = text->rfind(')');
  if (bracket == std::string::npos) return 0;
  const std::vector<std::string> fields =
      absl::StrSplit(text->substr(bracket + 1), ' ', absl::SkipEmpty());
  int64_t ticks = 0;
  if (fields.size() < 20 || fields[0] == "Z" || !absl::SimpleAtoi(fields[19], &ticks)) return 0;
  return ticks;
}

bool IsAlive(const PlatformState& state) {
  return state.supervisor_pid > 0 && state.supervisor_start_ticks != 0 &&
         StartTicksOf(state.supervisor_pid) == state.supervisor_start_ticks;
}

}  // namespace deltaworks::services

#include "services/cli/local/local_platform.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/file_lock.h"
#include "services/base/health_check.h"
#include "services/base/log.h"
#include "services/cli/local/rotating_log.h"
#include "services/cli/local/supervisor.h"
#include "services/cli/table.h"
#include "services/clients/channel.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr absl::Duration kPollInterval = absl::Milliseconds(50);
// Processes of a supervisor that was killed are gone within moments.
constexpr absl::Duration kLockTimeout = absl::Seconds(10);
constexpr absl::Duration kHealthTimeout = absl::Seconds(1);
constexpr int kTailLinesMax = 20;

absl::StatusOr<FileLock> LockHome(const PlatformLayout& layout, CommandContext& context) {
  const absl::Duration until = context.clock.Monotonic() + kLockTimeout;
  while (true) {
    absl::StatusOr<FileLock> lock = FileLock::TryAcquire(layout.LockFile());
    if (lock.ok() || !absl::IsFailedPrecondition(lock.status())) return lock;
    const auto state = ReadPlatformState(layout.StateFile());
    const bool alive = state.ok() && IsAlive(*state);
    if (alive || context.clock.Monotonic() >= until) {
      return absl::AlreadyExistsError(
          absl::StrCat(layout.LockFile(), ": another platform runs in this home"));
    }
    context.sleep(kPollInterval);
  }
}

absl::Status AskHealth(const std::string& address) {
  return CheckHealth(MakeChannel(address, /*token=*/"").grpc, kHealthTimeout);
}

}  // namespace

absl::StatusOr<bool> IsLocked(const PlatformLayout& layout) {
  const absl::Status status = FileLock::TryAcquire(layout.LockFile()).status();
  if (status.ok() || absl::IsNotFound(status)) return false;  // NotFound: there is no home.
  if (absl::IsFailedPrecondition(status)) return true;
  return status;
}

absl::Status RunPlatform(const UpOptions& options, const PlatformLayout& layout,
                         std::function<void(const PlatformState&)> changed, CommandContext& context,
                         PlatformState* state) {
  DW_ASSIGN_OR_RETURN(std::vector<ProcessSpec> processes, PlanForThisMachine(options, layout));
  DW_RETURN_IF_ERROR(MakeHome(layout));
  DW_ASSIGN_OR_RETURN(const FileLock lock, LockHome(layout, context));
  DW_RETURN_IF_ERROR(MakeTokens(layout));
  Supervisor supervisor({.layout = layout,
                         .processes = std::move(processes),
                         .process = {.start_timeout = options.start_timeout,
                                     .inherited_fd = lock.fd(),
                                     .check_health = AskHealth},
                         .changed = std::move(changed)},
                        context.clock);
  const absl::Status status = supervisor.Run();
  *state = supervisor.state();
  return status;
}

PlatformReport AskPlatform(const PlatformState& state) {
  PlatformReport report{.phase = NameOf(state.phase), .state = state};
  for (const ProcessState& process : state.processes) {
    absl::Status health = absl::UnavailableError(NameOf(process.phase));
    if (process.phase == ProcessPhase::kUp) health = AskHealth(process.address);
    report.health[process.name] = health.ok() ? kServing : std::string(health.message());
  }
  return report;
}

void PrintLogTail(const std::string& log_file, std::ostream& err) {
  err << "the end of " << log_file << ":\n";
  for (const std::string& line : LogTail(log_file, kTailLinesMax, kStartMark)) {
    err << "  " << SafeText(line) << "\n";
  }
}

}  // namespace deltaworks::services

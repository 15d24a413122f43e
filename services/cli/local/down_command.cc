#include "services/cli/local/down_command.h"

#include <signal.h>

#include "absl/strings/str_cat.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/local/local_platform.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// After SIGKILL.
constexpr absl::Duration kKillTimeout = absl::Seconds(10);

constexpr absl::Duration kPollInterval = absl::Milliseconds(50);

// Sends `signal` to the supervisor as soon as one that lives has said who it is, and polls until
// nobody holds the home. False: `timeout` passed before. Processes die with their supervisor.
absl::StatusOr<bool> Stop(const PlatformLayout& layout, int signal, absl::Duration timeout,
                          CommandContext& context) {
  const absl::Duration until = context.clock.Monotonic() + timeout;
  bool told = false;
  while (true) {
    DW_ASSIGN_OR_RETURN(const bool locked, IsLocked(layout));
    if (!locked) return true;
    if (!told) {
      const absl::StatusOr<PlatformState> state = ReadPlatformState(layout.StateFile());
      told = state.ok() && IsAlive(*state) &&
             kill(static_cast<pid_t>(state->supervisor_pid), signal) == 0;
    }
    if (context.clock.Monotonic() >= until) return false;
    context.sleep(kPollInterval);
  }
}

int Say(const std::string& outcome, const std::string& text, int code, CommandContext& context) {
  if (context.json()) {
    context.out << JsonText(Json{{"outcome", outcome}}, 2) << "\n";
  } else {
    context.out << text << "\n";
  }
  return code;
}

}  // namespace

void DownCommand::Declare(Arguments& arguments) {
  arguments.Flag("timeout", &timeout_, "after that everything is killed (default 2m)");
}

absl::StatusOr<int> DownCommand::Run(CommandContext& context) {
  DW_ASSIGN_OR_RETURN(const PlatformLayout layout, LayoutOf(context.platform.settings().home));
  DW_ASSIGN_OR_RETURN(const bool locked, IsLocked(layout));
  if (!locked) {
    RemoveClientFile(layout);  // Of a platform that was killed.
    return Say("not_running", absl::StrCat("nothing runs in ", layout.home), kExitOk, context);
  }
  const absl::Duration begin = context.clock.Monotonic();
  if (!context.json()) context.err << "stopping; workers take checkpoints first\n" << std::flush;
  DW_ASSIGN_OR_RETURN(const bool stopped, Stop(layout, SIGTERM, timeout_, context));
  if (stopped) {
    return Say("stopped",
               absl::StrCat("down after ", DurationText(context.clock.Monotonic() - begin)),
               kExitOk, context);
  }
  DW_ASSIGN_OR_RETURN(const bool killed, Stop(layout, SIGKILL, kKillTimeout, context));
  if (killed) {
    RemoveClientFile(layout);
    return Say("killed",
               absl::StrCat("killed after ", DurationText(timeout_),
                            "; jobs go on from their last checkpoints at the next `dw up`"),
               kExitBadOutcome, context);
  }
  return absl::InternalError(absl::StrCat("processes of the platform still hold ",
                                          layout.LockFile(), "; find them with: fuser ",
                                          layout.LockFile()));
}

}  // namespace deltaworks::services

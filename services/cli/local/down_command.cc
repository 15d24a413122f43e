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
  if (!IsLocked(layout)) {
    RemoveClientFile(layout);  // Of a platform that was killed.
    return Say("not_running", absl::StrCat("nothing runs in ", layout.home), kExitOk, context);
  }
  const absl::Duration begin = context.clock.Monotonic();
  const absl::StatusOr<PlatformState> state = ReadPlatformState(layout.StateFile());
  const bool alive = state.ok() && IsAlive(*state);
  if (alive) kill(static_cast<pid_t>(state->supervisor_pid), SIGTERM);
  if (!context.json()) context.err << "stopping; workers take checkpoints first\n";
  if (WaitUntilFree(layout, timeout_, context)) {
    return Say("stopped",
               absl::StrCat("down after ", DurationText(context.clock.Monotonic() - begin)),
               kExitOk, context);
  }
  // Its processes die with it.
  if (alive && IsAlive(*state)) kill(static_cast<pid_t>(state->supervisor_pid), SIGKILL);
  if (WaitUntilFree(layout, kKillTimeout, context)) {
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

#include "services/cli/local/up_command.h"

#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/base/log.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/local/detached_process.h"
#include "services/cli/local/local_platform.h"
#include "services/cli/local/rotating_log.h"
#include "services/cli/local/service_binaries.h"
#include "services/cli/local/state_output.h"
#include "services/cli/local/supervised_process.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr char kSupervisor[] = "supervisor";
constexpr absl::Duration kPollInterval = absl::Milliseconds(50);

// Of the whole platform; each process may take its own time to end as well.
absl::Duration StartTimeout(const UpOptions& options, size_t process_count) {
  return (options.start_timeout + absl::Minutes(1)) * static_cast<int64_t>(process_count + 1);
}

// `since`: when the person began to wait.
void SayUp(const PlatformLayout& layout, const PlatformState& state, absl::Duration since,
           CommandContext& context) {
  PrintReport(layout, AskPlatform(state), context);
  if (context.json()) return;
  context.out << "\nup after " << DurationText(context.clock.Monotonic() - since)
              << "; `dw status` tells how it is, `dw down` stops it\n";
}

// What went wrong, from the log of the process whose fault it is.
absl::Status ExplainFailure(const PlatformLayout& layout, const PlatformState& state,
                            CommandContext& context) {
  if (!state.failed_process.empty()) {
    PrintLogTail(layout.LogFile(state.failed_process), context.err);
  }
  const std::string text = absl::StrCat("the platform is not up: ", state.error);
  return state.failed_process.empty() ? absl::FailedPreconditionError(text)
                                      : absl::InternalError(text);
}

// Until the platform of the supervisor `pid` is up; `runs` tells whether that still lives. The
// supervisor bounds its own waits and ends if it fails, so `timeout` passes only if it cannot say
// how it is: the disk is full, or it was stopped.
absl::StatusOr<PlatformState> AwaitUp(const PlatformLayout& layout, int64_t pid,
                                      const std::function<bool()>& runs, absl::Duration timeout,
                                      CommandContext& context) {
  const absl::Duration until = context.clock.Monotonic() + timeout;
  while (context.clock.Monotonic() < until) {
    const bool running = runs();
    const absl::StatusOr<PlatformState> state = ReadPlatformState(layout.StateFile());
    const bool mine = state.ok() && state->supervisor_pid == pid;
    if (mine && state->phase == PlatformPhase::kUp) return state;
    if (mine && !running) {
      if (!state->error.empty()) return ExplainFailure(layout, *state, context);
      return absl::AbortedError("the platform was told to stop before it was up");
    }
    if (!running) return absl::UnknownError("the supervisor ended before it said anything");
    context.sleep(kPollInterval);
  }
  return absl::DeadlineExceededError(absl::StrCat(
      "the supervisor (process ", pid, ") runs and does not say that the platform is up; see ",
      layout.LogFile(kSupervisor)));
}

// The supervisor that holds the home; its state is read until it is up, or is not to be.
absl::StatusOr<int> MeetRunning(const PlatformLayout& layout, const PlatformState& state,
                                const UpOptions& options, CommandContext& context) {
  if (state.phase != PlatformPhase::kUp && state.phase != PlatformPhase::kStarting) {
    return absl::FailedPreconditionError(
        absl::StrCat("the platform in ", layout.home, " is ", NameOf(state.phase), " (process ",
                     state.supervisor_pid, "); run `dw up` again when it is down"));
  }
  const auto runs = [&state] { return IsAlive(state); };
  const absl::Duration timeout = StartTimeout(options, state.processes.size());
  DW_ASSIGN_OR_RETURN(const PlatformState up,
                      AwaitUp(layout, state.supervisor_pid, runs, timeout, context));
  PrintReport(layout, AskPlatform(up), context);
  if (!context.json()) {
    context.out << "\nalready up; the options were not looked at, `dw down` first to change them\n";
  }
  return kExitOk;
}

}  // namespace

std::vector<std::string> UpCommand::examples() const {
  return {"dw up", "dw up --train cpu:0,cpu:1", "dw up --foreground --port_base 0"};
}

std::string UpCommand::details() const {
  return "Starts store, registry, scheduler, inference and one worker for each device on loopback, "
         "makes a token, and keeps all of it running. Everything lies below the home folder; "
         "what was under way when it stopped goes on.";
}

void UpCommand::Declare(Arguments& arguments) {
  arguments.Flag("foreground", &foreground_, "stay in this terminal; Ctrl-C stops the platform");
  options_.Declare(arguments);
}

absl::StatusOr<int> UpCommand::Run(CommandContext& context) {
  DW_ASSIGN_OR_RETURN(const PlatformLayout layout, LayoutOf(context.platform.settings().home));
  DW_ASSIGN_OR_RETURN(const bool locked, IsLocked(layout));
  if (locked) {
    const absl::StatusOr<PlatformState> state = ReadPlatformState(layout.StateFile());
    if (state.ok() && IsAlive(*state)) return MeetRunning(layout, *state, options_, context);
  }
  return foreground_ ? RunInForeground(layout, context) : RunInBackground(layout, context);
}

absl::StatusOr<int> UpCommand::RunInForeground(const PlatformLayout& layout,
                                               CommandContext& context) {
  ConfigureLog(kSupervisor, LogLevel::kWarning);
  const absl::Duration begin = context.clock.Monotonic();
  bool said = false;
  PlatformState state;
  const absl::Status status = RunPlatform(
      options_, layout,
      [&](const PlatformState& now) {
        if (now.phase != PlatformPhase::kUp || std::exchange(said, true)) return;
        SayUp(layout, now, begin, context);
        context.out << std::flush;
      },
      context, &state);
  if (!status.ok() && !state.error.empty()) return ExplainFailure(layout, state, context);
  DW_RETURN_IF_ERROR(status);
  return kExitOk;
}

absl::StatusOr<int> UpCommand::RunInBackground(const PlatformLayout& layout,
                                               CommandContext& context) {
  // What is wrong with the options is said here, before anything runs.
  DW_ASSIGN_OR_RETURN(const std::vector<ProcessSpec> plan, PlanForThisMachine(options_, layout));
  DW_RETURN_IF_ERROR(MakeHome(layout));
  DW_ASSIGN_OR_RETURN(const std::string own, OwnBinary());
  std::vector<std::string> command = {own, "supervise", "--home=" + layout.home};
  for (std::string& word : options_.Words()) command.push_back(std::move(word));

  const absl::Duration begin = context.clock.Monotonic();
  DW_ASSIGN_OR_RETURN(const std::unique_ptr<DetachedProcess> supervisor,
                      DetachedProcess::Start(command, layout.LogFile(kSupervisor)));
  context.on_interrupt("the platform goes on starting; `dw status` tells how it is");
  std::optional<int> code;
  const auto runs = [&] {
    if (!code.has_value()) code = supervisor->ExitCode();
    return !code.has_value();
  };
  absl::StatusOr<PlatformState> state =
      AwaitUp(layout, supervisor->pid(), runs, StartTimeout(options_, plan.size()), context);
  if (!state.ok() && code == kExitRefused) {
    // Somebody else's `dw up` was faster.
    const absl::StatusOr<PlatformState> other = ReadPlatformState(layout.StateFile());
    if (other.ok() && IsAlive(*other)) return MeetRunning(layout, *other, options_, context);
  }
  if (absl::IsUnknown(state.status())) PrintLogTail(layout.LogFile(kSupervisor), context.err);
  DW_RETURN_IF_ERROR(state.status());
  SayUp(layout, *state, begin, context);
  return kExitOk;
}

absl::StatusOr<int> SuperviseCommand::Run(CommandContext& context) {
  DW_ASSIGN_OR_RETURN(const PlatformLayout layout, LayoutOf(context.platform.settings().home));
  DW_RETURN_IF_ERROR(MakeHome(layout));
  RotatingLog log(layout.LogFile(kSupervisor));
  const LogWriter before = SetLogWriter([&log](absl::string_view line) { log.Append(line); });
  ConfigureLog(kSupervisor, LogLevel::kInfo);
  LogInfo(kStartMark);
  PlatformState state;
  const absl::Status status = RunPlatform(options_, layout, nullptr, context, &state);
  LogInfo("supervisor ends", {{"error", status}});
  SetLogWriter(before);
  DW_RETURN_IF_ERROR(status);
  return kExitOk;
}

}  // namespace deltaworks::services

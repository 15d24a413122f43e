#include "services/cli/local/status_command.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "scheduler/job_state.h"
#include "services/cli/exit_code.h"
#include "services/cli/local/local_platform.h"
#include "services/cli/local/state_output.h"
#include "services/cli/names.h"
#include "services/cli/pages.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kJobsMax = 20'000;

// Of the caller's tenant; nullopt if the scheduler does not answer.
std::optional<JobCounts> CountJobs(CommandContext& context) {
  const absl::StatusOr<TrainingClient*> client = context.platform.training();
  if (!client.ok()) return std::nullopt;
  v1::ListJobsRequest request;
  request.set_parent(ParentName(context));
  request.set_filter("state = active");
  const auto active = ListAll(
      request, kJobsMax, [&](const auto& page) { return (*client)->ListJobs(page); },
      [](auto& response) { return response.mutable_jobs(); });
  if (!active.ok()) return std::nullopt;
  JobCounts counts;
  for (const v1::Job& job : active->jobs()) {
    const v1::JobState state = job.status().state();
    if (scheduler::IsOnWorker(state)) {
      ++counts.running;
    } else if (!scheduler::IsFinal(state) && state != v1::PAUSED) {
      ++counts.waiting;
    }
  }
  return counts;
}

// Empty if it ended in good order.
std::string HowItEnded(const PlatformState& state) {
  if (state.phase == PlatformPhase::kStopped) return "";
  if (state.phase == PlatformPhase::kFailed) {
    return absl::StrCat("the last `dw up` failed: ", state.error);
  }
  return absl::StrCat("its supervisor (process ", state.supervisor_pid,
                      ") was killed; `dw up` goes on where it was");
}

}  // namespace

absl::StatusOr<int> StatusCommand::Run(CommandContext& context) {
  DW_ASSIGN_OR_RETURN(const PlatformLayout layout, LayoutOf(context.platform.settings().home));
  const absl::StatusOr<PlatformState> state = ReadPlatformState(layout.StateFile());
  PlatformReport report;
  if (!state.ok() || !IsAlive(*state)) {
    if (!state.ok() && !absl::IsNotFound(state.status())) return state.status();
    report.phase = "down";
    if (state.ok()) report.error = HowItEnded(*state);
    PrintReport(layout, report, context);
    return kExitUnavailable;
  }
  report = AskPlatform(*state);
  bool all_serve = state->phase == PlatformPhase::kUp;
  for (const auto& [process, health] : report.health) all_serve &= health == kServing;
  if (report.health["scheduler"] == kServing) report.jobs = CountJobs(context);
  PrintReport(layout, report, context);
  return all_serve ? kExitOk : kExitBadOutcome;
}

}  // namespace deltaworks::services

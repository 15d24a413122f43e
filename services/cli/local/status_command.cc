#include "services/cli/local/status_command.h"

#include "absl/strings/str_cat.h"
#include "services/cli/exit_code.h"
#include "services/cli/local/local_platform.h"
#include "services/cli/local/state_output.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int kPageSize = 1000;
constexpr int kPagesMax = 20;

void Count(const v1::Job& job, JobCounts* counts) {
  switch (job.status().state()) {
    case v1::RUNNING:
    case v1::PAUSING:
    case v1::CANCELLING:
      ++counts->running;
      return;
    case v1::VALIDATING:
    case v1::QUEUED:
    case v1::FINALIZING:
      ++counts->waiting;
      return;
    default:
      return;
  }
}

// Of the caller's tenant; nullopt if the scheduler does not answer.
std::optional<JobCounts> CountJobs(CommandContext& context) {
  const absl::StatusOr<TrainingClient*> client = context.platform.training();
  if (!client.ok()) return std::nullopt;
  JobCounts counts;
  v1::ListJobsRequest request;
  request.set_parent("tenants/" + context.tenant);
  request.set_filter("state = active");
  request.set_page_size(kPageSize);
  for (int page = 0; page < kPagesMax; ++page) {
    const absl::StatusOr<v1::ListJobsResponse> response = (*client)->ListJobs(request);
    if (!response.ok()) return std::nullopt;
    for (const v1::Job& job : response->jobs()) Count(job, &counts);
    if (response->next_page_token().empty()) break;
    request.set_page_token(response->next_page_token());
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
  report.phase = NameOf(state->phase);
  report.state = *state;
  bool all_serve = state->phase == PlatformPhase::kUp;
  bool scheduler_serves = false;
  for (const ProcessState& process : state->processes) {
    absl::Status health = absl::UnavailableError(NameOf(process.phase));
    if (process.pid != 0 && !process.address.empty()) health = check_health_(process.address);
    report.health[process.name] = health.ok() ? "serving" : std::string(health.message());
    all_serve &= health.ok();
    scheduler_serves |= health.ok() && process.name == "scheduler";
  }
  if (scheduler_serves) report.jobs = CountJobs(context);
  PrintReport(layout, report, context);
  return all_serve ? kExitOk : kExitBadOutcome;
}

}  // namespace deltaworks::services

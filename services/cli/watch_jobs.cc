#include "services/cli/watch_jobs.h"

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "scheduler/job_state.h"
#include "services/cli/enum_text.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/job_view.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "services/cli/table.h"
#include "services/cli/watch_job.h"
#include "services/cli/watch_view.h"
#include "services/clients/retry.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// The states that were seen, and what is printed about them.
class Board {
 public:
  Board(CommandContext& context, const std::vector<v1::Job>& jobs) : context_(context) {
    for (const v1::Job& job : jobs) {
      state_[job.name()] = job.status().state();
      Count(job.status().state());
    }
  }

  bool AllEnded() const { return ended_ == static_cast<int64_t>(state_.size()); }
  bool OneEndedBadly() const { return bad_ > 0; }

  void Take(const v1::Job& job) {
    const auto found = state_.find(job.name());
    const v1::JobState state = job.status().state();
    // A job of somebody else; nothing new; or an answer that is older than the last.
    if (found == state_.end() || found->second == state || scheduler::IsFinal(found->second)) {
      return;
    }
    found->second = state;
    Count(state);
    if (context_.json()) return PrintJsonLine(context_, job);
    context_.out << TimeText(context_.clock.Now()) << "  " << ShortName(job.name()) << "  "
                 << Painted(EnumText(state), PaintOf(state), context_.color) << Remark(job) << "\n"
                 << std::flush;
  }

  // Asks for those that have not ended and were not told of since the watch began.
  absl::Status AskForOthers(TrainingClient& client, const std::set<std::string>& told) {
    for (const auto& [name, state] : state_) {
      if (scheduler::IsFinal(state) || told.contains(name)) continue;
      DW_ASSIGN_OR_RETURN(const v1::Job job, client.GetJob(name));
      Take(job);
    }
    return absl::OkStatus();
  }

 private:
  void Count(v1::JobState state) {
    if (!scheduler::IsFinal(state)) return;
    ++ended_;
    if (state != v1::SUCCEEDED) ++bad_;
  }

  static std::string Remark(const v1::Job& job) {
    const v1::JobStatus& status = job.status();
    if (status.state() == v1::FAILED) {
      return absl::StrCat("  ", SafeText(FailureText(status.failure())));
    }
    if (status.state() != v1::SUCCEEDED) return "";
    return absl::StrCat("  ", ShortVersion(status.result().version()));
  }

  CommandContext& context_;
  std::map<std::string, v1::JobState> state_;  // By name.
  int64_t ended_ = 0, bad_ = 0;
};

// One stream, until it or the last job ends. What had ended before it began is not in it.
absl::Status WatchOnce(const CommandContext& context, TrainingClient& client, Board& board,
                       const std::function<void()>& progressed) {
  v1::WatchJobsRequest request;
  request.set_parent(ParentName(context));
  request.set_filter("state = active");
  std::set<std::string> told;
  bool asked = false;
  const absl::Status status =
      client.WatchJobs(request, [&](const v1::WatchJobsResponse& response) -> absl::Status {
        progressed();
        for (const v1::Job& job : response.jobs()) {
          told.insert(job.name());
          board.Take(job);
        }
        if (response.synced() && !std::exchange(asked, true)) {
          DW_RETURN_IF_ERROR(board.AskForOthers(client, told));
        }
        return board.AllEnded() ? absl::CancelledError("all ended") : absl::OkStatus();
      });
  if (board.AllEnded()) return absl::OkStatus();
  return status.ok() ? absl::UnavailableError("the watch of the jobs ended early") : status;
}

}  // namespace

absl::StatusOr<int> WatchJobsToEnd(CommandContext& context, TrainingClient& client,
                                   const std::vector<v1::Job>& jobs, const std::string& come_back) {
  context.on_interrupt(absl::StrCat("The jobs go on. Come back with: ", come_back));
  Board board(context, jobs);
  bool said = false;
  const RetryPolicy policy = PatientPolicy(context, said);
  RetryState retry(policy);
  while (!board.AllEnded()) {
    bool answered = false;
    const absl::Status status = WatchOnce(context, client, board, [&] {
      answered = true;
      said = false;
    });
    // The wait for the scheduler begins when it goes away, however long it had been silent.
    if (answered) retry.Progressed();
    if (status.ok()) continue;
    if (!absl::IsUnavailable(status) && !absl::IsResourceExhausted(status)) return status;
    if (!retry.Pause()) return status;
  }
  return board.OneEndedBadly() ? kExitBadOutcome : kExitOk;
}

}  // namespace deltaworks::services

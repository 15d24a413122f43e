#include "services/cli/watch_job.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/job_view.h"
#include "services/cli/json_output.h"
#include "services/cli/table.h"
#include "services/cli/watch_view.h"
#include "services/clients/follow_job.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// A scheduler that is away for longer is not coming back by itself.
constexpr absl::Duration kAwayMax = absl::Minutes(10);

// Draws over what it drew before.
class Screen {
 public:
  explicit Screen(std::ostream& out) : out_(out) {}

  void Draw(const std::string& block) {
    if (lines_ > 0) out_ << "\x1b[" << lines_ << "A\x1b[J";
    out_ << block << std::flush;
    lines_ = std::count(block.begin(), block.end(), '\n');
  }
  // Somebody else writes below: the next block begins anew.
  void Leave() { lines_ = 0; }

 private:
  std::ostream& out_;
  int64_t lines_ = 0;
};

// What a person wants to know once it is over.
void PrintEnd(CommandContext& context, const v1::Job& job) {
  const v1::JobStatus& status = job.status();
  context.out << "\n";
  if (status.state() == v1::SUCCEEDED) {
    const std::string version = ShortVersion(status.result().version());
    context.out << Painted("done: ", Paint::kGreen, context.color) << "adapter " << version
                << "\n  dw adapter get " << version << "\n  dw generate --adapter " << version
                << " --chat \"...\"\n";
  } else if (status.state() == v1::FAILED) {
    context.out << Painted("failed: ", Paint::kRed, context.color)
                << SafeText(FailureText(status.failure())) << "\n";
  } else {
    context.out << "cancelled at step " << status.progress().step() << "\n";
  }
}

int CodeOf(const v1::Job& job) {
  return job.status().state() == v1::SUCCEEDED ? kExitOk : kExitBadOutcome;
}

// What WatchJobToEnd and WaitForJob have in common.
absl::Status Watch(CommandContext& context, TrainingClient& client, const std::string& name,
                   const TrainingClient::JobSink& sink, const std::function<void()>& away) {
  v1::WatchJobRequest request;
  request.set_name(name);
  const std::string job = ShortName(name);
  return FollowPatiently(
      context, client, request,
      absl::StrCat("dw job watch ", job, "   (stop it: dw job cancel ", job, ")"), sink, away);
}

}  // namespace

RetryPolicy PatientPolicy(CommandContext& context, bool& said, std::function<void()> away) {
  RetryPolicy policy = context.retry_policy();
  policy.total_max = kAwayMax;
  policy.sleep = [&context, &said, away = std::move(away)](absl::Duration wait) {
    if (!std::exchange(said, true)) {
      if (away != nullptr) away();
      context.err << "the scheduler does not answer, trying again\n" << std::flush;
    }
    context.sleep(wait);
  };
  return policy;
}

absl::Status FollowPatiently(CommandContext& context, TrainingClient& client,
                             const v1::WatchJobRequest& request, const std::string& come_back,
                             const TrainingClient::JobSink& sink,
                             const std::function<void()>& away) {
  context.on_interrupt(absl::StrCat("The job goes on. Come back with: ", come_back));
  bool said = false;
  const RetryPolicy policy = PatientPolicy(context, said, away);
  return FollowJob(client, request, policy, [&](const v1::WatchJobResponse& response) {
    said = false;
    return sink(response);
  });
}

absl::StatusOr<int> WatchJobToEnd(CommandContext& context, TrainingClient& client,
                                  const std::string& name) {
  // Tells a wrong name, or nobody there, before the long wait begins.
  DW_RETURN_IF_ERROR(client.GetJob(name).status());
  WatchView view(context.color, context.width);
  Screen screen(context.out);
  const auto show = [&](const v1::WatchJobResponse& response) {
    const std::string lines = view.Take(response);
    if (context.json()) {
      PrintJsonLine(context, response);
    } else if (context.terminal) {
      screen.Draw(view.Block());
    } else {
      context.out << lines << std::flush;
    }
    return absl::OkStatus();
  };
  DW_RETURN_IF_ERROR(Watch(context, client, name, show, [&screen] { screen.Leave(); }));
  if (!context.json()) PrintEnd(context, view.job());
  return CodeOf(view.job());
}

absl::StatusOr<int> WaitForJob(CommandContext& context, TrainingClient& client,
                               const std::string& name) {
  DW_ASSIGN_OR_RETURN(v1::Job job, client.GetJob(name));
  const auto keep = [&job](const v1::WatchJobResponse& response) {
    job = response.job();
    return absl::OkStatus();
  };
  DW_RETURN_IF_ERROR(Watch(context, client, name, keep, /*away=*/nullptr));
  PrintJob(context, job);
  return CodeOf(job);
}

}  // namespace deltaworks::services

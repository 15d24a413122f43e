#include "services/cli/worker_commands.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "services/cli/enum_text.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "services/cli/operator_error.h"
#include "services/cli/pages.h"
#include "services/cli/table.h"
#include "services/clients/retry.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr absl::Duration kPollInterval = absl::Seconds(2);
// The scheduler may be away so long while somebody waits.
constexpr absl::Duration kAwayMax = absl::Minutes(10);
absl::StatusOr<v1::ListWorkersResponse> ListWorkers(TrainingClient& client, int64_t limit) {
  return ListAll(
      v1::ListWorkersRequest(), limit, [&](const auto& page) { return client.ListWorkers(page); },
      [](auto& response) { return response.mutable_workers(); });
}

// "cordoned".
std::string ModeWord(v1::WorkerMode mode) {
  const std::string words = EnumWords(mode);
  return std::string(absl::StripPrefix(words, "worker "));
}

std::string JobsText(int64_t count) {
  return absl::StrCat(CountText(count), count == 1 ? " job" : " jobs");
}

class WorkerList final : public Command {
 public:
  std::string name() const override { return "worker list"; }
  std::string summary() const override { return "List workers: mode, device, jobs, last report"; }
  std::vector<std::string> examples() const override {
    return {"dw worker list", "dw worker list --output json"};
  }
  void Declare(Arguments& arguments) override {
    arguments.Flag("limit", &limit_, "most rows (default 1000)");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(TrainingClient * client, context.platform.training());
    DW_ASSIGN_OR_RETURN(const v1::ListWorkersResponse all, ListWorkers(*client, limit_));
    if (context.json()) return PrintJson(context, all), kExitOk;
    Table table(
        {"WORKER", "STATE", "MODE", "DEVICE", "DESCRIPTION", ">MEMORY", ">JOBS", "LAST REPORT"});
    for (const v1::Worker& worker : all.workers()) {
      table.AddRow(
          {ShortName(worker.name()), StateCell(worker), ModeCell(worker),
           worker.environment().device(), worker.environment().device_description(),
           BytesText(worker.environment().memory_bytes()), absl::StrCat(worker.job_count()),
           absl::StrCat(DurationText(absl::Seconds(worker.last_report_age_seconds())), " ago")});
    }
    table.Print(context.out, context.color);
    return kExitOk;
  }

 private:
  static Cell StateCell(const v1::Worker& worker) {
    if (!worker.online()) return {"offline", Paint::kRed};
    if (worker.draining()) return {"draining", Paint::kYellow};
    return {"online", Paint::kGreen};
  }
  static Cell ModeCell(const v1::Worker& worker) {
    const bool is_active = worker.mode() == v1::WORKER_ACTIVE;
    const std::string until =
        worker.has_quarantined_until()
            ? absl::StrCat(" until ", TimeText(ToTime(worker.quarantined_until())))
            : "";
    return {absl::StrCat(ModeWord(worker.mode()), until),
            is_active ? Paint::kNone : Paint::kYellow};
  }

  int64_t limit_ = 1000;
};

// A command that sets the mode of one worker.
class WorkerSetMode : public Command {
 public:
  explicit WorkerSetMode(v1::WorkerMode mode) : mode_(mode) {}

  void Declare(Arguments& arguments) override {
    arguments.Positional("WORKER", &worker_, "id or name of the worker");
  }

  absl::StatusOr<int> Run(CommandContext& context) final {
    v1::SetWorkerModeRequest request;
    DW_ASSIGN_OR_RETURN(*request.mutable_worker(), WorkerName("WORKER", worker_));
    request.set_mode(mode_);
    DW_ASSIGN_OR_RETURN(OperatorClient * client, context.platform.operators());
    const absl::StatusOr<v1::SetWorkerModeResponse> response = client->SetWorkerMode(request);
    if (!response.ok()) return OperatorError(response.status());
    DW_RETURN_IF_ERROR(AfterChange(context, *client, request));
    if (context.json()) return PrintJson(context, *response), kExitOk;
    context.out << ShortName(request.worker()) << " is " << Outcome(*response) << "\n";
    return kExitOk;
  }

 protected:
  virtual absl::Status AfterChange(CommandContext&, OperatorClient&,
                                   const v1::SetWorkerModeRequest&) {
    return absl::OkStatus();
  }
  virtual std::string Outcome(const v1::SetWorkerModeResponse& response) const {
    return ModeWord(response.mode());
  }

 private:
  const v1::WorkerMode mode_;
  std::string worker_;
};

class WorkerCordon final : public WorkerSetMode {
 public:
  WorkerCordon() : WorkerSetMode(v1::WORKER_CORDONED) {}
  std::string name() const override { return "worker cordon"; }
  std::string summary() const override { return "Give a worker no new job; it keeps those it has"; }
  std::string details() const override {
    return "Stays so over restarts of the worker and the scheduler, until `dw worker uncordon`. "
           "Wants an operator's token.";
  }
  std::vector<std::string> examples() const override { return {"dw worker cordon box-gpu-3"}; }
};

class WorkerUncordon final : public WorkerSetMode {
 public:
  WorkerUncordon() : WorkerSetMode(v1::WORKER_ACTIVE) {}
  std::string name() const override { return "worker uncordon"; }
  std::string summary() const override {
    return "Let a cordoned or drained worker take jobs again";
  }
  std::string details() const override { return "Wants an operator's token."; }
  std::vector<std::string> examples() const override { return {"dw worker uncordon box-gpu-3"}; }
};

class WorkerDrain final : public WorkerSetMode {
 public:
  WorkerDrain() : WorkerSetMode(v1::WORKER_DRAINED) {}
  std::string name() const override { return "worker drain"; }
  std::string summary() const override { return "Have a worker hand all of its jobs back"; }
  std::string details() const override {
    return "Its jobs take a checkpoint and go back to the queue, at no cost to their retries; it "
           "gets no new one until `dw worker uncordon`. Wants an operator's token.";
  }
  std::vector<std::string> examples() const override {
    return {"dw worker drain box-gpu-3", "dw worker drain box-gpu-3 --wait"};
  }
  void Declare(Arguments& arguments) override {
    WorkerSetMode::Declare(arguments);
    arguments.Flag("wait", &wait_, "until it holds no job");
  }

 protected:
  absl::Status AfterChange(CommandContext& context, OperatorClient& operators,
                           const v1::SetWorkerModeRequest& request) override {
    if (!wait_) return absl::OkStatus();
    context.on_interrupt(absl::StrCat("The worker stays drained. Come back with: dw worker drain ",
                                      ShortName(request.worker()), " --wait"));
    return WaitUntilEmpty(context, operators, request);
  }
  std::string Outcome(const v1::SetWorkerModeResponse& response) const override {
    if (wait_) return "drained and holds no job";
    if (response.leaving() == 0) return "drained";
    return absl::StrCat("drained, ", JobsText(response.leaving()), " told to leave");
  }

 private:
  static absl::Status WaitUntilEmpty(CommandContext& context, OperatorClient& operators,
                                     const v1::SetWorkerModeRequest& request);

  bool wait_ = false;
};

// What `call` returns, asked again while the scheduler is away.
template <typename Call>
auto AskPatiently(CommandContext& context, const Call& call) -> decltype(call()) {
  RetryPolicy policy = context.retry_policy();
  policy.total_max = kAwayMax;
  decltype(call()) answer = absl::UnknownError("not asked");
  static_cast<void>(CallWithRetry(policy, [&] {
    answer = call();
    return answer.status();
  }));
  return answer;
}

// The jobs that `worker` holds; nullopt if no list has it, as after a restart of the scheduler
// until its first report. FailedPrecondition if it is not drained any more.
absl::StatusOr<std::optional<int64_t>> JobsOf(TrainingClient& client, const std::string& worker) {
  DW_ASSIGN_OR_RETURN(const v1::ListWorkersResponse all, ListWorkers(client, kListLimitMax));
  for (const v1::Worker& listed : all.workers()) {
    if (listed.name() != worker) continue;
    if (listed.mode() == v1::WORKER_DRAINED) return listed.job_count();
    return absl::FailedPreconditionError(absl::StrCat(worker, " is ", ModeWord(listed.mode()),
                                                      ", want drained: somebody changed it"));
  }
  return std::nullopt;
}

absl::Status WorkerDrain::WaitUntilEmpty(CommandContext& context, OperatorClient& operators,
                                         const v1::SetWorkerModeRequest& request) {
  DW_ASSIGN_OR_RETURN(TrainingClient * client, context.platform.training());
  int64_t said = 0;
  while (true) {
    DW_ASSIGN_OR_RETURN(std::optional<int64_t> jobs,
                        AskPatiently(context, [&] { return JobsOf(*client, request.worker()); }));
    if (!jobs.has_value()) {
      // The same again changes nothing, and says who has still to leave.
      DW_ASSIGN_OR_RETURN(const v1::SetWorkerModeResponse response,
                          AskPatiently(context, [&] { return operators.SetWorkerMode(request); }));
      jobs = response.leaving();
    }
    if (*jobs == 0) return absl::OkStatus();
    if (std::exchange(said, *jobs) != *jobs) {
      context.err << ShortName(request.worker()) << " holds " << JobsText(*jobs) << "\n"
                  << std::flush;
    }
    context.sleep(kPollInterval);
  }
}

}  // namespace

void AddWorkerCommands(CommandTable& table) {
  table.push_back(std::make_unique<WorkerList>());
  table.push_back(std::make_unique<WorkerCordon>());
  table.push_back(std::make_unique<WorkerUncordon>());
  table.push_back(std::make_unique<WorkerDrain>());
}

}  // namespace deltaworks::services

#include "services/cli/job_commands.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/base/random_id.h"
#include "services/base/resource_names.h"
#include "services/cli/enum_text.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/job_submit.h"
#include "services/cli/job_view.h"
#include "services/cli/json_output.h"
#include "services/cli/names.h"
#include "services/cli/pages.h"
#include "services/cli/timing_flags.h"
#include "services/cli/watch_job.h"
#include "trainer/base/json.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// A command about one job.
class JobCommand : public Command {
 public:
  void Declare(Arguments& arguments) override {
    arguments.Positional("JOB", &job_, "id or name of the job");
  }

  absl::StatusOr<int> Run(CommandContext& context) final {
    DW_ASSIGN_OR_RETURN(const std::string name, JobName(context, "JOB", job_));
    DW_ASSIGN_OR_RETURN(TrainingClient * client, context.platform.training());
    return RunOn(context, *client, name);
  }

 protected:
  virtual absl::StatusOr<int> RunOn(CommandContext& context, TrainingClient& client,
                                    const std::string& name) = 0;

 private:
  std::string job_;
};

class JobList final : public Command {
 public:
  std::string name() const override { return "job list"; }
  std::string summary() const override { return "List jobs, newest first"; }
  std::vector<std::string> examples() const override {
    return {"dw job list", "dw job list --state active",
            "dw job list --filter 'train.base_model = tenants/default/baseModels/smollm2'"};
  }
  void Declare(Arguments& arguments) override {
    std::vector<std::string> states = EnumChoices<v1::JobState>();
    states.push_back("active");
    arguments.Flag("state", &state_, "only jobs in this state")
        .ValueName("STATE")
        .Choices(std::move(states));
    arguments.Flag("filter", &filter_,
                   "terms FIELD = VALUE joined by AND (training_service.proto)");
    arguments.Flag("limit", &limit_, "most rows (default 100)");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    DW_ASSIGN_OR_RETURN(TrainingClient * client, context.platform.training());
    v1::ListJobsRequest request;
    request.set_parent(ParentName(context));
    std::vector<std::string> terms;
    if (!filter_.empty()) terms.push_back(filter_);
    if (!state_.empty()) {
      terms.push_back(absl::StrCat(
          "state = ", state_ == "active" ? state_ : EnumText(EnumOf<v1::JobState>(state_))));
    }
    request.set_filter(absl::StrJoin(terms, " AND "));
    DW_ASSIGN_OR_RETURN(
        const v1::ListJobsResponse all,
        ListAll(
            request, limit_, [&](const auto& page) { return client->ListJobs(page); },
            [](auto& response) { return response.mutable_jobs(); }));
    PrintJobs(context, all);
    return kExitOk;
  }

 private:
  std::string state_, filter_;
  int64_t limit_ = 100;
};

class JobGet final : public JobCommand {
 public:
  std::string name() const override { return "job get"; }
  std::string summary() const override {
    return "Show one job: state, why it waits, progress, attempts, result";
  }
  std::vector<std::string> examples() const override { return {"dw job get job-7"}; }

 protected:
  absl::StatusOr<int> RunOn(CommandContext& context, TrainingClient& client,
                            const std::string& name) override {
    DW_ASSIGN_OR_RETURN(const v1::Job job, client.GetJob(name));
    PrintJob(context, job);
    return kExitOk;
  }
};

class JobWatch final : public JobCommand {
 public:
  std::string name() const override { return "job watch"; }
  std::string summary() const override { return "Show a job's progress until it ends"; }
  std::string details() const override {
    return "Step, loss, speed, time left and a sparkline of the loss; goes on through restarts of "
           "the scheduler. Ctrl-C leaves the job running. Exit code 6 if it FAILED or was "
           "CANCELLED.";
  }
  std::vector<std::string> examples() const override { return {"dw job watch job-7"}; }

 protected:
  absl::StatusOr<int> RunOn(CommandContext& context, TrainingClient& client,
                            const std::string& name) override {
    return WatchJobToEnd(context, client, name);
  }
};

class JobLogs final : public JobCommand {
 public:
  std::string name() const override { return "job logs"; }
  std::string summary() const override { return "Show what happened to a job, line by line"; }
  std::vector<std::string> examples() const override {
    return {"dw job logs job-7", "dw job logs job-7 --follow",
            "dw job logs job-7 --since_seq 40 --output json"};
  }
  void Declare(Arguments& arguments) override {
    JobCommand::Declare(arguments);
    arguments.Flag("follow", &follow_, "go on until the job ends");
    arguments.Flag("since_seq", &since_seq_, "only events after this number (default 0)");
    arguments.Flag("limit", &limit_, "most events, without --follow (default 10000)");
  }

 protected:
  absl::StatusOr<int> RunOn(CommandContext& context, TrainingClient& client,
                            const std::string& name) override {
    return follow_ ? Follow(context, client, name) : List(context, client, name);
  }

 private:
  absl::StatusOr<int> Follow(CommandContext& context, TrainingClient& client,
                             const std::string& name) const {
    DW_RETURN_IF_ERROR(client.GetJob(name).status());
    v1::WatchJobRequest request;
    request.set_name(name);
    request.set_since_seq(since_seq_);
    DW_RETURN_IF_ERROR(FollowPatiently(context, client, request,
                                       absl::StrCat("dw job logs ", ShortName(name), " --follow"),
                                       [&](const v1::WatchJobResponse& response) {
                                         for (const v1::JobEvent& event : response.events())
                                           PrintEvent(context, event);
                                         return absl::OkStatus();
                                       }));
    return kExitOk;
  }

  absl::StatusOr<int> List(CommandContext& context, TrainingClient& client,
                           const std::string& name) const {
    v1::ListJobEventsRequest request;
    request.set_parent(name);
    request.set_since_seq(since_seq_);
    DW_ASSIGN_OR_RETURN(
        const v1::ListJobEventsResponse all,
        ListAll(
            request, limit_, [&](const auto& page) { return client.ListJobEvents(page); },
            [](auto& response) { return response.mutable_job_events(); }));
    for (const v1::JobEvent& event : all.job_events()) PrintEvent(context, event);
    return kExitOk;
  }

  bool follow_ = false;
  int64_t since_seq_ = 0, limit_ = 10'000;
};

class JobUpdate final : public JobCommand {
 public:
  std::string name() const override { return "job update"; }
  std::string summary() const override { return "Change a job's class or timing"; }
  std::string details() const override {
    return "What is not given stays as it is; `none` takes a time away. A waiting job moves to the "
           "place that its new class gives it. A job that has a result, or has ended, cannot be "
           "changed (exit code 4).";
  }
  std::vector<std::string> examples() const override {
    return {"dw job update job-7 --priority high", "dw job update job-7 --deadline +6h",
            "dw job update job-7 --start_after none --time_limit 2h"};
  }
  void Declare(Arguments& arguments) override {
    JobCommand::Declare(arguments);
    arguments.Flag("priority_class", &priority_class_, "place in the queue")
        .ValueName("CLASS")
        .Choices(EnumChoices<v1::PriorityClass>())
        .Alias("priority");
    timing_.Declare(arguments);
  }

 protected:
  absl::StatusOr<int> RunOn(CommandContext& context, TrainingClient& client,
                            const std::string& name) override {
    if (!priority_class_ && !timing_.any()) {
      return absl::InvalidArgumentError(
          "nothing to change, want --priority_class, --start_after, --deadline or --time_limit");
    }
    v1::UpdateJobRequest request;
    request.set_name(name);
    request.set_request_id(RandomHexId());
    if (priority_class_) {
      request.set_priority_class(EnumOf<v1::PriorityClass>(*priority_class_));
    }
    if (timing_.any()) {
      DW_ASSIGN_OR_RETURN(const v1::Job before, client.GetJob(name));
      *request.mutable_timing() = before.timing();
      DW_RETURN_IF_ERROR(timing_.Apply(context.clock.Now(), *request.mutable_timing()));
    }
    DW_ASSIGN_OR_RETURN(const v1::Job job, client.UpdateJob(request));
    PrintJob(context, job);
    return kExitOk;
  }

 private:
  std::optional<std::string> priority_class_;
  TimingFlags timing_;
};

class JobRerun final : public JobCommand {
 public:
  std::string name() const override { return "job rerun"; }
  std::string summary() const override { return "Queue a job's task again, as a new job"; }
  std::string details() const override {
    return "The same base, data, settings, adapter, class and placement, from the first step. The "
           "new job names the old one as its parent_job. A job that has not ended cannot be rerun "
           "(exit code 4).";
  }
  std::vector<std::string> examples() const override {
    return {"dw job rerun job-7", "dw job rerun job-7 --job_id job-7b"};
  }
  void Declare(Arguments& arguments) override {
    JobCommand::Declare(arguments);
    arguments.Flag("job_id", &job_id_, "id of the new job (default: the scheduler makes one)")
        .ValueName("ID");
    arguments.Flag("request_id", &request_id_,
                   "repeating a command with the same one does not make a second job");
  }

 protected:
  absl::StatusOr<int> RunOn(CommandContext& context, TrainingClient& client,
                            const std::string& name) override {
    if (!job_id_.empty()) DW_RETURN_IF_ERROR(CheckResourceId("--job_id", job_id_));
    v1::RerunJobRequest request;
    request.set_name(name);
    request.set_job_id(job_id_);
    request.set_request_id(request_id_.empty() ? RandomHexId() : request_id_);
    DW_ASSIGN_OR_RETURN(const v1::Job job, client.RerunJob(request));
    PrintJob(context, job);
    if (!context.json()) {
      context.err << "\nFollow it with: dw job watch " << ShortName(job.name()) << "\n";
    }
    return kExitOk;
  }

 private:
  std::string job_id_, request_id_;
};

class JobDelete final : public JobCommand {
 public:
  std::string name() const override { return "job delete"; }
  std::string summary() const override { return "Remove a job that has ended"; }
  std::string details() const override {
    return "Its events, metrics and checkpoints go with it; versions made of it stay, and its id "
           "is not used again. A job that has not ended cannot be deleted (exit code 4): cancel it "
           "first.";
  }
  std::vector<std::string> examples() const override { return {"dw job delete job-7"}; }

 protected:
  absl::StatusOr<int> RunOn(CommandContext& context, TrainingClient& client,
                            const std::string& name) override {
    v1::DeleteJobRequest request;
    request.set_name(name);
    request.set_request_id(RandomHexId());
    DW_RETURN_IF_ERROR(client.DeleteJob(request));
    if (context.json()) {
      context.out << JsonText(Json{{"deleted", name}}) << "\n";
    } else {
      context.out << ShortName(name) << " is deleted\n";
    }
    return kExitOk;
  }
};

// cancel, pause and resume differ in the rpc and the words.
template <typename Request>
class JobMove final : public JobCommand {
 public:
  using Rpc = absl::StatusOr<v1::Job> (TrainingClient::*)(const Request&);
  JobMove(const char* verb, const char* summary, const char* details, Rpc rpc)
      : verb_(verb), summary_(summary), details_(details), rpc_(rpc) {}

  std::string name() const override { return absl::StrCat("job ", verb_); }
  std::string summary() const override { return summary_; }
  std::string details() const override { return details_; }
  std::vector<std::string> examples() const override {
    return {absl::StrCat("dw job ", verb_, " job-7")};
  }

 protected:
  absl::StatusOr<int> RunOn(CommandContext& context, TrainingClient& client,
                            const std::string& name) override {
    Request request;
    request.set_name(name);
    request.set_request_id(RandomHexId());
    DW_ASSIGN_OR_RETURN(const v1::Job job, (client.*rpc_)(request));
    if (context.json()) return PrintJson(context, job), kExitOk;
    context.out << ShortName(job.name()) << " is " << EnumText(job.status().state()) << "\n";
    return kExitOk;
  }

 private:
  const std::string verb_, summary_, details_;
  const Rpc rpc_;
};

}  // namespace

void AddJobCommands(CommandTable& table) {
  table.push_back(MakeJobSubmit());
  table.push_back(std::make_unique<JobList>());
  table.push_back(std::make_unique<JobGet>());
  table.push_back(std::make_unique<JobWatch>());
  table.push_back(std::make_unique<JobLogs>());
  table.push_back(std::make_unique<JobUpdate>());
  table.push_back(std::make_unique<JobRerun>());
  table.push_back(std::make_unique<JobMove<v1::CancelJobRequest>>(
      "cancel", "Stop a job for good",
      "A running job stops within one step; committed checkpoints stay. A job that is finalizing "
      "or "
      "has ended cannot be cancelled (exit code 4).",
      &TrainingClient::CancelJob));
  table.push_back(std::make_unique<JobMove<v1::PauseJobRequest>>(
      "pause", "Take a job off its worker and keep it",
      "A running job takes a checkpoint first; `dw job resume` goes on from there, to the same "
      "bytes as without the pause.",
      &TrainingClient::PauseJob));
  table.push_back(std::make_unique<JobMove<v1::ResumeJobRequest>>(
      "resume", "Put a paused job back in the queue", "It keeps its place by submit time.",
      &TrainingClient::ResumeJob));
  table.push_back(std::make_unique<JobDelete>());
}

}  // namespace deltaworks::services

#include "services/cli/job_submit.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/base/random_id.h"
#include "services/base/resource_names.h"
#include "services/cli/enum_text.h"
#include "services/cli/estimate_view.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/job_view.h"
#include "services/cli/names.h"
#include "services/cli/timing_flags.h"
#include "services/cli/train_flags.h"
#include "services/cli/watch_job.h"
#include "trainer/base/file.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kJobFileBytesMax = 4 << 20;

class JobSubmit final : public Command {
 public:
  std::string name() const override { return "job submit"; }
  std::string summary() const override { return "Queue a fine-tune job"; }
  std::string details() const override {
    return "Flags have the names of PEFT and Hugging Face; they go over what --file says, which is "
           "a Job of job.proto as JSON: {\"train\": {\"base_model\": \"smollm2\", \"dataset\": "
           "\"notes\", \"lora\": {\"r\": 16}, \"arguments\": {\"max_steps\": 100}}}. With --watch "
           "or --wait the exit code tells how the job ended: 6 is FAILED or CANCELLED.";
  }
  std::vector<std::string> examples() const override {
    return {
        "dw job submit --base_model smollm2 --dataset notes",
        "dw job submit --base_model smollm2 --dataset notes --validation_dataset notes-held-out "
        "-r 16 --lora_alpha 32 --learning-rate 1e-3 --max-steps 100 --watch",
        "dw job submit --file job.json --learning_rate 5e-4 --job_id sweep-2",
        "dw job submit --file job.json --dry_run"};
  }

  void Declare(Arguments& arguments) override {
    arguments.Flag("file", &file_, "job as JSON; flags go over it")
        .ValueName("FILE")
        .Kind(ValueKind::kFile);
    arguments.Flag("dry_run", &dry_run_,
                   "queue nothing; say whether it is valid, where it fits, what it takes");
    arguments.Flag("watch", &watch_, "show its progress until it ends");
    arguments.Flag("wait", &wait_, "wait silently until it ends, then show it");
    train_.Declare(arguments);
    arguments.Section("The job");
    arguments.Flag("job_id", &job_id_, "id of the job (default: the scheduler makes one)")
        .ValueName("ID");
    arguments.Flag("display_name", &display_name_, "for people");
    arguments.Flag("labels", &labels_, "for you to find it by");
    arguments.Flag("parent_job", &parent_job_, "job that this one belongs to").ValueName("JOB");
    arguments.Flag("priority_class", &priority_class_, "place in the queue (default normal)")
        .ValueName("CLASS")
        .Choices(EnumChoices<v1::PriorityClass>())
        .Alias("priority");
    arguments.Flag("max_retries", &max_retries_,
                   "attempts that may end without a new checkpoint; -1: any number (default 5)");
    arguments.Flag("worker_labels", &worker_labels_, "labels that its worker must have");
    arguments.Flag("device_kind", &device_kind_, "device that it needs (default: any)")
        .ValueName("KIND")
        .Choices({"cpu", "cuda"});
    arguments
        .Flag("resume_policy", &resume_policy_,
              "whether it may go on in another numerics class (default any)")
        .ValueName("POLICY")
        .Choices(EnumChoices<v1::Placement::ResumePolicy>());
    arguments.Flag("cohort", &cohort_, "with whose jobs it may share a worker (default any)")
        .ValueName("WHO")
        .Choices(EnumChoices<v1::Placement::Cohort>());
    arguments
        .Flag("memory_bytes_min", &memory_bytes_min_,
              "memory that its worker has, at least (default: what the job needs)")
        .ValueName("BYTES");
    arguments.Flag("gang_size", &gang_size_,
                   "workers that train it together, each with its share of every step (default 1)");
    timing_.Declare(arguments);
    arguments.Flag("request_id", &request_id_,
                   "repeating a command with the same one does not make a second job");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    v1::CreateJobRequest request;
    request.set_parent(ParentName(context));
    request.set_job_id(job_id_);
    request.set_request_id(request_id_.empty() ? RandomHexId() : request_id_);
    DW_RETURN_IF_ERROR(Fill(context, *request.mutable_job()));
    DW_ASSIGN_OR_RETURN(TrainingClient * client, context.platform.training());
    if (dry_run_) return DryRun(context, *client, request);
    DW_ASSIGN_OR_RETURN(const v1::Job job, client->CreateJob(request));
    if (watch_ && !context.json()) context.out << "job " << ShortName(job.name()) << "\n";
    if (watch_) return WatchJobToEnd(context, *client, job.name());
    if (wait_) return WaitForJob(context, *client, job.name());
    PrintJob(context, job);
    if (!context.json()) {
      context.err << "\nFollow it with: dw job watch " << ShortName(job.name()) << "\n";
    }
    return kExitOk;
  }

 private:
  static absl::StatusOr<int> DryRun(CommandContext& context, TrainingClient& client,
                                    const v1::CreateJobRequest& create) {
    v1::EstimateJobRequest request;
    request.set_parent(create.parent());
    *request.mutable_job() = create.job();
    DW_ASSIGN_OR_RETURN(const v1::EstimateJobResponse estimate, client.EstimateJob(request));
    PrintEstimate(context, estimate);
    return estimate.has_failure() ? kExitBadOutcome : kExitOk;
  }

  absl::Status Fill(const CommandContext& context, v1::Job& job) const {
    if (!job_id_.empty()) DW_RETURN_IF_ERROR(CheckResourceId("--job_id", job_id_));
    if (!file_.empty()) {
      DW_ASSIGN_OR_RETURN(const std::string json, ReadFile(file_, kJobFileBytesMax));
      DW_RETURN_IF_ERROR(ParseJobJson(json, file_, job));
    }
    DW_RETURN_IF_ERROR(train_.Apply(context, *job.mutable_train()));
    if (!display_name_.empty()) job.set_display_name(display_name_);
    for (const auto& [key, value] : labels_) (*job.mutable_labels())[key] = value;
    if (!parent_job_.empty()) {
      DW_ASSIGN_OR_RETURN(*job.mutable_parent_job(), JobName(context, "--parent_job", parent_job_));
    }
    if (priority_class_) job.set_priority_class(EnumOf<v1::PriorityClass>(*priority_class_));
    if (max_retries_) {
      DW_RETURN_IF_ERROR(CheckInt32("--max_retries", *max_retries_));
      job.mutable_retry_policy()->set_max_retries(static_cast<int32_t>(*max_retries_));
    }
    if (gang_size_) {
      DW_RETURN_IF_ERROR(CheckInt32("--gang_size", *gang_size_));
      job.mutable_placement()->set_gang_size(static_cast<int32_t>(*gang_size_));
    }
    FillPlacement(*job.mutable_placement());
    if (timing_.any()) return timing_.Apply(context.clock.Now(), *job.mutable_timing());
    return absl::OkStatus();
  }

  void FillPlacement(v1::Placement& placement) const {
    for (const auto& [key, value] : worker_labels_) {
      (*placement.mutable_worker_labels())[key] = value;
    }
    if (device_kind_) placement.set_device_kind(*device_kind_);
    if (memory_bytes_min_) placement.set_memory_bytes_min(*memory_bytes_min_);
    if (resume_policy_) {
      placement.set_resume_policy(EnumOf<v1::Placement::ResumePolicy>(*resume_policy_));
    }
    if (cohort_) placement.set_cohort(EnumOf<v1::Placement::Cohort>(*cohort_));
  }

  std::string file_, job_id_, display_name_, parent_job_, request_id_;
  bool watch_ = false, wait_ = false, dry_run_ = false;
  TrainFlags train_;
  TimingFlags timing_;
  std::map<std::string, std::string> labels_, worker_labels_;
  std::optional<std::string> priority_class_, device_kind_, resume_policy_, cohort_;
  std::optional<int64_t> max_retries_, gang_size_, memory_bytes_min_;
};

}  // namespace

std::unique_ptr<Command> MakeJobSubmit() { return std::make_unique<JobSubmit>(); }

}  // namespace deltaworks::services

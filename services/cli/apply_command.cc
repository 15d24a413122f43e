#include "services/cli/apply_command.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/cli/apply_file.h"
#include "services/cli/enum_text.h"
#include "services/cli/exit_code.h"
#include "services/cli/format.h"
#include "services/cli/job_difference.h"
#include "services/cli/names.h"
#include "services/cli/progress_line.h"
#include "services/cli/table.h"
#include "services/cli/watch_jobs.h"
#include "trainer/base/file.h"
#include "trainer/base/json.h"
#include "trainer/base/sha256.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

// Differences of a job in the table; JSON has all.
constexpr size_t kShownDifferencesMax = 3;
constexpr int64_t kShownWidthMax = 40;
// So many jobs take seconds.
constexpr size_t kProgressJobsMin = 100;

enum class Outcome { kWouldCreate, kCreated, kUnchanged, kDiffers, kRefused, kNotTried };

const char* OutcomeText(Outcome outcome) {
  switch (outcome) {
    case Outcome::kWouldCreate:
      return "would create";
    case Outcome::kCreated:
      return "created";
    case Outcome::kUnchanged:
      return "unchanged";
    case Outcome::kDiffers:
      return "differs";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kNotTried:
      return "not tried";
  }
  return "?";
}

Paint PaintOf(Outcome outcome) {
  switch (outcome) {
    case Outcome::kCreated:
      return Paint::kGreen;
    case Outcome::kDiffers:
      return Paint::kYellow;
    case Outcome::kRefused:
      return Paint::kRed;
    default:
      return Paint::kNone;
  }
}

struct Applied {
  const FileJob* file = nullptr;
  std::string name;  // In full.
  Outcome outcome = Outcome::kWouldCreate;
  v1::Job job;  // The scheduler's, if there is one.
  std::vector<FieldDifference> differences;
  std::string message;  // Why it was refused, or what differs besides.

  // There was such a job already.
  void Meet(v1::Job met) {
    JobDifference difference = DifferenceOf(*file, met);
    outcome = difference.differs ? Outcome::kDiffers : Outcome::kUnchanged;
    differences = std::move(difference.fields);
    if (difference.differs && differences.empty()) {
      message = "the file was changed since, in nothing that the job shows";
    }
    job = std::move(met);
  }
};

// The same for the same job of the same file: a repeated command, or one whose answer was lost,
// makes one job.
std::string RequestIdOf(const Applied& applied) {
  const std::string digest =
      Sha256Digest(absl::StrCat(applied.name, "\n", applied.file->job.labels().at(kApplyLabel)));
  return absl::StrCat("apply-", digest.substr(digest.find(':') + 1, 32));
}

std::string DetailsOf(const Applied& applied) {
  std::vector<std::string> parts;
  for (const FieldDifference& difference : applied.differences) {
    if (parts.size() == kShownDifferencesMax) {
      parts.push_back(absl::StrCat("and ", applied.differences.size() - parts.size(), " more"));
      break;
    }
    const auto shown = [](const std::string& text) {
      return text.empty() ? "nothing" : CutToWidth(text, kShownWidthMax);
    };
    parts.push_back(absl::StrCat(difference.field, " is ", shown(difference.job),
                                 ", the file says ", shown(difference.file)));
  }
  if (!applied.message.empty()) parts.push_back(applied.message);
  if (parts.empty() && !applied.job.name().empty()) {
    return EnumText(applied.job.status().state());
  }
  return absl::StrJoin(parts, "; ");
}

Json JsonOf(const std::vector<Applied>& all) {
  Json jobs = Json::array();
  for (const Applied& applied : all) {
    Json differences = Json::array();
    for (const FieldDifference& difference : applied.differences) {
      differences.push_back(
          {{"field", difference.field}, {"file", difference.file}, {"job", difference.job}});
    }
    jobs.push_back({{"name", applied.name},
                    {"outcome", OutcomeText(applied.outcome)},
                    {"state", EnumText(applied.job.status().state())},
                    {"differences", std::move(differences)},
                    {"message", applied.message}});
  }
  return {{"jobs", std::move(jobs)}};
}

int64_t Count(const std::vector<Applied>& all, Outcome outcome) {
  int64_t count = 0;
  for (const Applied& applied : all) count += applied.outcome == outcome ? 1 : 0;
  return count;
}

// "2 created, 1 unchanged".
std::string CountsText(const std::vector<Applied>& all) {
  std::vector<std::string> parts;
  for (const Outcome outcome : {Outcome::kCreated, Outcome::kWouldCreate, Outcome::kUnchanged,
                                Outcome::kDiffers, Outcome::kRefused, Outcome::kNotTried}) {
    const int64_t count = Count(all, outcome);
    if (count > 0) parts.push_back(absl::StrCat(count, " ", OutcomeText(outcome)));
  }
  return absl::StrJoin(parts, ", ");
}

class Apply final : public Command {
 public:
  std::string name() const override { return "apply"; }
  std::string summary() const override { return "Queue the jobs of a file that are not there yet"; }
  std::string details() const override {
    return "The file is YAML or JSON: {base_model: smollm2, defaults: {lora: {rank: 8}}, jobs: "
           "[{name: notes, dataset: notes}, {name: poems, dataset: poems, max_steps: 200}]}. "
           "defaults and jobs have the fields of job.proto or the flags of `dw job submit` by "
           "their names; a job's own go over the defaults, null takes one back. name becomes the "
           "id. A job that is there is left alone: unchanged, or, with exit code 4, it differs "
           "(dw changes no job that was accepted; give the new one another name). Nothing is "
           "created unless the whole file is right; if the scheduler stops in the middle, apply "
           "the file again. With --watch the exit code tells how the jobs ended: 6 if one FAILED "
           "or was CANCELLED.";
  }
  std::vector<std::string> examples() const override {
    return {"dw apply -f jobs.yaml --dry_run", "dw apply -f jobs.yaml --watch",
            "make_jobs | dw apply -f -"};
  }

  void Declare(Arguments& arguments) override {
    arguments.Flag("file", &file_, "the jobs, as YAML or JSON; - is standard input")
        .Alias("f")
        .ValueName("FILE")
        .Kind(ValueKind::kFile)
        .Required();
    arguments.Flag("dry_run", &dry_run_, "say what would be done, and do nothing");
    arguments.Flag("watch", &watch_,
                   "then wait until all have ended, telling each change of state");
  }

  absl::StatusOr<int> Run(CommandContext& context) override {
    if (dry_run_ && watch_) {
      return absl::InvalidArgumentError("--dry_run and --watch are given, want one of them");
    }
    DW_ASSIGN_OR_RETURN(const std::string text, ReadText(context));
    DW_ASSIGN_OR_RETURN(const std::vector<FileJob> jobs,
                        ParseApplyFile(context, text, file_ == "-" ? "stdin" : file_));
    DW_ASSIGN_OR_RETURN(TrainingClient * client, context.platform.training());
    DW_ASSIGN_OR_RETURN(std::vector<Applied> all, LookUp(context, *client, jobs));
    const absl::Status status = dry_run_ ? absl::OkStatus() : Create(context, *client, all);
    Print(context, all);
    DW_RETURN_IF_ERROR(status);
    const int64_t differing = Count(all, Outcome::kDiffers);
    if (differing > 0) {
      context.err << "no accepted job is changed: give " << (differing == 1 ? "it" : "those")
                  << " another name in the file to have the new one\n";
    }
    if (!watch_) return differing > 0 ? kExitRefused : kExitOk;
    DW_ASSIGN_OR_RETURN(const int code, Watch(context, *client, all));
    return differing > 0 ? kExitRefused : code;
  }

 private:
  absl::StatusOr<std::string> ReadText(const CommandContext& context) const {
    if (file_ == "-") {
      // One byte more tells that it is too long.
      std::string text(static_cast<size_t>(kApplyFileBytesMax) + 1, '\0');
      context.in.read(text.data(), static_cast<std::streamsize>(text.size()));
      text.resize(static_cast<size_t>(context.in.gcount()));
      return text;
    }
    absl::StatusOr<std::string> text = ReadFile(file_, kApplyFileBytesMax);
    if (absl::IsResourceExhausted(text.status())) {
      return absl::InvalidArgumentError(text.status().message());
    }
    return text;
  }

  // Which of the jobs are there.
  static absl::StatusOr<std::vector<Applied>> LookUp(CommandContext& context,
                                                     TrainingClient& client,
                                                     const std::vector<FileJob>& jobs) {
    std::vector<Applied> all;
    all.reserve(jobs.size());
    std::optional<ProgressLine> progress;
    if (jobs.size() >= kProgressJobsMin) progress.emplace(context, "looking");
    for (const FileJob& file : jobs) {
      Applied applied{.file = &file};
      DW_ASSIGN_OR_RETURN(applied.name, JobName(context, "name", file.id));
      absl::StatusOr<v1::Job> job = client.GetJob(applied.name);
      if (job.ok()) {
        applied.Meet(*std::move(job));
      } else if (!absl::IsNotFound(job.status())) {
        return job.status();
      }
      all.push_back(std::move(applied));
      Show(progress, all.size(), jobs.size());
    }
    return all;
  }

  // In the order of the file, which is their order in the queue, up to the first that is refused.
  static absl::Status Create(CommandContext& context, TrainingClient& client,
                             std::vector<Applied>& all) {
    std::optional<ProgressLine> progress;
    if (all.size() >= kProgressJobsMin) progress.emplace(context, "creating");
    absl::Status refused;
    size_t done = 0;
    for (Applied& applied : all) {
      if (applied.outcome != Outcome::kWouldCreate) {
        // It was there.
      } else if (!refused.ok()) {
        applied.outcome = Outcome::kNotTried;
      } else {
        refused = CreateOne(context, client, applied);
      }
      Show(progress, ++done, all.size());
    }
    if (refused.ok()) return refused;
    return absl::Status(refused.code(), absl::StrCat(refused.message(), " (", CountsText(all),
                                                     "; apply the file again to go on)"));
  }

  static absl::Status CreateOne(const CommandContext& context, TrainingClient& client,
                                Applied& applied) {
    v1::CreateJobRequest request;
    request.set_parent(ParentName(context));
    request.set_job_id(applied.file->id);
    request.set_request_id(RequestIdOf(applied));
    *request.mutable_job() = applied.file->job;
    absl::StatusOr<v1::Job> job = client.CreateJob(request);
    if (job.ok()) {
      applied.outcome = Outcome::kCreated;
      applied.job = *std::move(job);
      return absl::OkStatus();
    }
    if (absl::IsAlreadyExists(job.status())) {
      // Somebody else was faster, since we looked.
      absl::StatusOr<v1::Job> met = client.GetJob(applied.name);
      if (met.ok()) return applied.Meet(*std::move(met)), absl::OkStatus();
    }
    applied.outcome = Outcome::kRefused;
    applied.message = std::string(job.status().message());
    return absl::Status(job.status().code(),
                        absl::StrCat("job ", applied.file->id, ": ", job.status().message()));
  }

  static void Show(std::optional<ProgressLine>& progress, size_t done, size_t total) {
    if (!progress) return;
    progress->Show(static_cast<double>(done) / static_cast<double>(total),
                   absl::StrCat(done, " of ", total, " jobs"));
  }

  void Print(CommandContext& context, const std::vector<Applied>& all) const {
    if (context.json()) {
      context.out << JsonText(JsonOf(all), watch_ ? -1 : 1) << "\n" << std::flush;
      return;
    }
    Table table({"JOB", "OUTCOME", "DETAILS"});
    for (const Applied& applied : all) {
      table.AddRow({applied.file->id,
                    {OutcomeText(applied.outcome), PaintOf(applied.outcome)},
                    DetailsOf(applied)});
    }
    table.Print(context.out, context.color);
    context.out << std::flush;
    context.err << CountsText(all) << "\n";
  }

  absl::StatusOr<int> Watch(CommandContext& context, TrainingClient& client,
                            const std::vector<Applied>& all) const {
    std::vector<v1::Job> jobs;
    for (const Applied& applied : all) {
      // One that differs is not the file's.
      if (applied.outcome != Outcome::kDiffers) jobs.push_back(applied.job);
    }
    return WatchJobsToEnd(context, client, jobs, absl::StrCat("dw apply -f ", file_, " --watch"));
  }

  std::string file_;
  bool dry_run_ = false, watch_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeApply() { return std::make_unique<Apply>(); }

}  // namespace deltaworks::services

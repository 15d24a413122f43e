#include "services/cli/job_view.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "scheduler/proto_time.h"
#include "services/cli/enum_text.h"
#include "services/cli/estimate_view.h"
#include "services/cli/format.h"
#include "services/cli/json_output.h"
#include "services/cli/table.h"
#include "services/cli/watch_view.h"

namespace deltaworks::services {
namespace {

std::string StepText(const v1::Progress& progress) {
  if (progress.step() == 0 && progress.total_steps() == 0) return "-";
  if (progress.total_steps() == 0) return absl::StrCat(progress.step());
  return absl::StrCat(progress.step(), "/", progress.total_steps());
}

std::string LoraText(const v1::LoraConfig& lora) {
  const std::string modules =
      lora.target_modules().empty() ? "all-linear" : absl::StrJoin(lora.target_modules(), ", ");
  return absl::StrFormat("rank %d, lora_alpha %g, on %s", lora.has_rank() ? lora.rank() : 8,
                         lora.has_lora_alpha() ? lora.lora_alpha() : 8, modules);
}

void AddProgress(const v1::Progress& progress, FactSheet& facts) {
  if (progress.step() == 0) return;
  std::vector<std::string> parts = {absl::StrCat("step ", StepText(progress)),
                                    absl::StrCat("loss ", LossText(progress.loss()))};
  if (progress.eval_loss() != 0) {
    parts.push_back(absl::StrCat("eval loss ", LossText(progress.eval_loss())));
  }
  if (progress.tokens_per_second() > 0) {
    parts.push_back(absl::StrFormat("%.0f tokens/s", progress.tokens_per_second()));
  }
  if (progress.eta_seconds() > 0) {
    parts.push_back(absl::StrCat("ETA ", DurationText(absl::Seconds(progress.eta_seconds()))));
  }
  facts.Add("progress", absl::StrJoin(parts, ", "));
}

void AddTiming(const v1::Job& job, FactSheet& facts) {
  facts.Add("class", EnumText(job.priority_class()));
  const v1::Timing& timing = job.timing();
  if (timing.has_start_after()) facts.Add("starts after", TimeText(ToTime(timing.start_after())));
  if (timing.has_deadline()) facts.Add("deadline", TimeText(ToTime(timing.deadline())));
  const bool limited = timing.has_time_limit();
  if (!limited && job.status().device_ms() == 0) return;
  facts.Add(
      "device time",
      absl::StrCat(
          DurationText(absl::Milliseconds(job.status().device_ms())),
          limited ? absl::StrCat(" of ", DurationText(scheduler::FromProto(timing.time_limit())))
                  : ""));
}

void AddResult(const v1::JobStatus& status, FactSheet& facts) {
  if (status.has_checkpoint()) {
    facts.Add("checkpoint", absl::StrCat("step ", status.checkpoint().step(), ", ",
                                         BytesText(status.checkpoint().size_bytes())));
  }
  if (!status.numerics_class().empty()) {
    facts.Add("numerics class",
              absl::StrCat(status.numerics_class(), status.exact() ? "" : " (not exact)"));
  }
  if (status.has_result()) {
    facts.Add("version", {ShortVersion(status.result().version()), Paint::kGreen});
    facts.Add("adapter digest", status.result().adapter_digest());
  }
  if (status.has_failure()) {
    facts.Add("failure", {FailureText(status.failure()), Paint::kRed});
  }
}

void PrintAttempts(CommandContext& context, const v1::JobStatus& status) {
  if (status.attempts().empty()) return;
  context.out << "\nattempts (" << status.attempt_count() << "):\n";
  Table table({">EPOCH", "WORKER", "BEGAN", ">RAN", ">FROM STEP", ">CHECKPOINT", "END", "FAILURE"});
  for (const v1::Attempt& attempt : status.attempts()) {
    const absl::Time begin = ToTime(attempt.grant_time());
    const bool ended = attempt.has_end_time();
    const absl::Time end = ended ? ToTime(attempt.end_time()) : context.clock.Now();
    const std::string worker =
        absl::StrCat(ShortName(attempt.worker()),
                     attempt.gang_size() > 1 ? absl::StrCat(" +", attempt.gang_size() - 1) : "");
    table.AddRow({absl::StrCat(attempt.lease_epoch()), worker, TimeText(begin),
                  DurationText(end - begin), absl::StrCat(attempt.start_step()),
                  attempt.checkpoint_step() > 0 ? absl::StrCat(attempt.checkpoint_step()) : "-",
                  ended ? EnumWords(attempt.end()) : "running",
                  attempt.has_failure() ? attempt.failure().message() : ""});
  }
  table.Print(context.out, context.color);
}

}  // namespace

void AddTask(const v1::Job& job, FactSheet& facts) {
  const v1::TrainSpec& spec = job.train();
  facts.Add("base model", ShortName(spec.base_model()));
  facts.Add("dataset", ShortName(spec.dataset()));
  facts.Add("validation", ShortName(spec.validation_dataset()));
  facts.Add("adapter", ShortName(spec.adapter()));
  facts.Add("LoRA", LoraText(spec.lora()));
}

void AddFacts(const v1::TrainFacts& found, FactSheet& facts) {
  facts.Add("data", absl::StrCat(CountText(found.train_examples()), " examples, ",
                                 CountText(found.train_tokens()), " tokens, ",
                                 CountText(found.label_tokens()), " with a label"));
  facts.Add("trainable",
            absl::StrCat(CountText(found.trainable_parameters()), " of ",
                         CountText(found.total_parameters()), " parameters (",
                         PercentText(found.trainable_parameters(), found.total_parameters()), ")"));
  if (found.memory_bytes_max() > 0) {
    facts.Add("memory at most", BytesText(found.memory_bytes_max()));
  }
}

std::string FailureText(const v1::Failure& failure) {
  std::string text = absl::StrCat(failure.code(), ": ", failure.message());
  const std::string field =
      failure.field().empty() ? "" : absl::StrCat("field ", failure.field(), "; ");
  if (failure.fault() == v1::Failure::PLATFORM) {
    absl::StrAppend(&text, " (", field, "not your fault; repeating may help)");
  } else if (!field.empty()) {
    absl::StrAppend(&text, " (field ", failure.field(), ")");
  }
  return text;
}

void PrintJob(CommandContext& context, const v1::Job& job) {
  if (context.json()) return PrintJson(context, job);
  const v1::JobStatus& status = job.status();
  FactSheet facts;
  facts.Add("job", {job.name(), Paint::kBold});
  facts.Add("display name", job.display_name());
  facts.Add("state", {EnumText(status.state()), PaintOf(status.state())});
  if (status.reason() != v1::JOB_REASON_UNSPECIFIED) {
    facts.Add("reason", absl::StrCat(EnumWords(status.reason()),
                                     status.message().empty() ? "" : ": ", status.message()));
  }
  if (status.has_waiting()) {
    facts.Add("waits",
              absl::StrCat(EnumWords(status.waiting().reason()), ": ", status.waiting().message()));
    const v1::Waiting& waiting = status.waiting();
    if (waiting.queue_position() > 0) {
      facts.Add("place in the queue",
                absl::StrCat(waiting.queue_position(),
                             waiting.queue_position_max() > waiting.queue_position()
                                 ? absl::StrCat(" to ", waiting.queue_position_max())
                                 : ""));
    }
  }
  AddEstimates(status, context.clock.Now(), facts);
  AddTiming(job, facts);
  AddTask(job, facts);
  if (status.has_facts()) AddFacts(status.facts(), facts);
  AddProgress(status.progress(), facts);
  AddResult(status, facts);
  facts.Add("created", TimeText(ToTime(job.create_time())));
  if (job.has_start_time()) facts.Add("started", TimeText(ToTime(job.start_time())));
  if (job.has_end_time()) facts.Add("ended", TimeText(ToTime(job.end_time())));
  facts.Print(context.out, context.color);
  PrintAttempts(context, status);
}

void PrintJobs(CommandContext& context, const v1::ListJobsResponse& jobs) {
  if (context.json()) return PrintJson(context, jobs);
  Table table({"JOB", "STATE", ">STEP", ">LOSS", "BASE MODEL", "DATASET", "ADAPTER", "CREATED"});
  for (const v1::Job& job : jobs.jobs()) {
    const v1::JobStatus& status = job.status();
    const std::string adapter = status.result().version().empty()
                                    ? ShortName(job.train().adapter())
                                    : ShortVersion(status.result().version());
    table.AddRow({ShortName(job.name()),
                  {EnumText(status.state()), PaintOf(status.state())},
                  StepText(status.progress()),
                  status.progress().step() > 0 ? LossText(status.progress().loss()) : "-",
                  ShortName(job.train().base_model()),
                  ShortName(job.train().dataset()),
                  adapter,
                  AgeText(ToTime(job.create_time()), context.clock.Now())});
  }
  table.Print(context.out, context.color);
}

void PrintEvent(CommandContext& context, const v1::JobEvent& event) {
  if (context.json()) return PrintJsonLine(context, event);
  const Paint paint = event.level() >= v1::JobEvent::ERROR     ? Paint::kRed
                      : event.level() == v1::JobEvent::WARNING ? Paint::kYellow
                                                               : Paint::kNone;
  const std::string what = event.type() == v1::JobEvent::STATE_CHANGED
                               ? absl::StrCat("state ", EnumText(event.state()))
                               : EnumWords(event.type());
  const std::string step = event.step() > 0 ? absl::StrCat(" at step ", event.step()) : "";
  context.out << Painted(TimeText(ToTime(event.time())), Paint::kDim, context.color) << "  "
              << Painted(EnumText(event.level()), paint, context.color) << "  " << what << step
              << (event.message().empty() ? "" : ": ") << SafeText(event.message()) << "\n"
              << std::flush;
}

}  // namespace deltaworks::services

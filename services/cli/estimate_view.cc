#include "services/cli/estimate_view.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "services/cli/enum_text.h"
#include "services/cli/format.h"
#include "services/cli/job_view.h"
#include "services/cli/json_output.h"

namespace deltaworks::services {
namespace {

std::string DeviceTimeText(int64_t device_ms, bool measured) {
  return absl::StrCat(DurationText(absl::Milliseconds(device_ms)),
                      measured ? "" : " (a guess: no worker timed this base yet)");
}

// "in 5 min", "now".
std::string InText(const google::protobuf::Timestamp& time, absl::Time now) {
  const absl::Duration in = ToTime(time) - now;
  return in < absl::Seconds(1) ? "now" : absl::StrCat("in ", DurationText(in));
}

void AddStart(const v1::Waiting& waiting, absl::Time now, FactSheet& facts) {
  if (!waiting.has_likely_start_time()) return;
  const bool is_interval =
      ToTime(waiting.likely_start_time()) != ToTime(waiting.likely_start_time_max());
  std::string text = is_interval
                         ? absl::StrCat("not before ", InText(waiting.likely_start_time(), now),
                                        ", until ", InText(waiting.likely_start_time_max(), now))
                         : InText(waiting.likely_start_time(), now);
  if (waiting.has_earliest_start_time()) {
    absl::StrAppend(&text, " (a worker has room ", InText(waiting.earliest_start_time(), now), ")");
  }
  facts.Add("likely start", text);
  if (waiting.has_likely_end_time()) {
    facts.Add("likely end", InText(waiting.likely_end_time(), now));
  }
}

std::string WhyNot(const v1::WorkerKindFit& kind) {
  if (kind.taking_jobs() == 0) return "takes no jobs";
  return kind.reason() == v1::JOB_REASON_UNSPECIFIED ? "" : EnumWords(kind.reason());
}

}  // namespace

void AddEstimates(const v1::JobStatus& status, absl::Time now, FactSheet& facts) {
  if (status.has_estimate()) {
    const v1::JobEstimate& estimate = status.estimate();
    facts.Add("device time estimated", DeviceTimeText(estimate.device_ms(), estimate.measured()));
    if (estimate.cost() > 0) facts.Add("cost estimated", absl::StrFormat("%.2f", estimate.cost()));
  }
  if (!status.has_waiting()) return;
  AddStart(status.waiting(), now, facts);
  if (status.has_start_bound()) {
    facts.Add("starts at the latest", TimeText(ToTime(status.start_bound().latest_start_time())));
  }
  for (const std::string& hint : status.waiting().hints()) facts.Add("would help", hint);
}

void PrintEstimate(CommandContext& context, const v1::EstimateJobResponse& estimate) {
  if (context.json()) return PrintJson(context, estimate);
  const v1::Job& job = estimate.job();
  const v1::JobStatus& status = job.status();
  FactSheet facts;
  if (estimate.has_failure()) {
    facts.Add("valid", {absl::StrCat("no: ", FailureText(estimate.failure())), Paint::kRed});
  } else {
    facts.Add("valid", {"yes; nothing was queued", Paint::kGreen});
  }
  for (const std::string& warning : estimate.warnings()) facts.Add("warning", warning);
  AddTask(job, facts);
  if (status.has_facts()) {
    facts.Add("steps", CountText(status.facts().total_steps()));
    AddFacts(status.facts(), facts);
  }
  if (status.has_waiting()) {
    facts.Add("would wait",
              absl::StrCat(EnumWords(status.waiting().reason()), ": ", status.waiting().message()));
  }
  AddEstimates(status, context.clock.Now(), facts);
  facts.Print(context.out, context.color);
  if (estimate.workers().empty()) return;
  context.out << "\nworkers:\n";
  Table table({"DEVICE", "DESCRIPTION", ">MEMORY", ">ONLINE", ">FIT", ">FIT NOW", ">DEVICE TIME",
               "WHY NOT"});
  for (const v1::WorkerKindFit& kind : estimate.workers()) {
    table.AddRow({kind.device_kind(), kind.device_description(), BytesText(kind.memory_bytes()),
                  absl::StrCat(kind.online()), absl::StrCat(kind.fitting()),
                  absl::StrCat(kind.fitting_now()),
                  kind.fitting() > 0
                      ? absl::StrCat(kind.measured() ? "" : "~",
                                     DurationText(absl::Milliseconds(kind.device_ms())))
                      : "-",
                  WhyNot(kind)});
  }
  table.Print(context.out, context.color);
}

}  // namespace deltaworks::services

#include "services/scheduler/estimate_errors.h"

#include <prometheus/histogram.h>

#include "scheduler/job_state.h"
#include "scheduler/proto_time.h"

namespace deltaworks::services {

using scheduler::FromProto;

void EstimateErrors::Told(const v1::Job& job, absl::Time now) {
  const v1::Waiting& waiting = job.status().waiting();
  // An interval is no number to compare with.
  if (!waiting.has_likely_start_time() ||
      FromProto(waiting.likely_start_time()) != FromProto(waiting.likely_start_time_max()) ||
      (told_.size() >= kToldMax && !told_.contains(job.name()))) {
    return;
  }
  Promise& promise = told_[job.name()];
  promise = {.told = now, .start = FromProto(waiting.likely_start_time())};
  if (waiting.has_likely_end_time()) promise.end = FromProto(waiting.likely_end_time());
}

void EstimateErrors::Observe(const char* estimate, absl::Duration came, absl::Duration told) {
  if (told > absl::ZeroDuration()) {
    metrics_.EstimateRatio(estimate).Observe(absl::FDivDuration(came, told));
  }
}

void EstimateErrors::Committed(const scheduler::Event& event, const scheduler::State& state) {
  const scheduler::JobRecord* record = state.FindJob(event.job());
  if (event.has_result_accepted() && record != nullptr) {
    const v1::JobStatus& status = record->job().status();
    Observe("device_time", absl::Milliseconds(status.device_ms()),
            absl::Milliseconds(status.estimate().device_ms()));
  }
  if (told_.empty()) return;
  const auto promise = told_.find(event.job());
  if (promise == told_.end()) return;
  const absl::Time now = FromProto(event.time());
  const absl::Time told = promise->second.told;
  if (event.has_attempt_granted()) Observe("start", now - told, promise->second.start - told);
  if (event.has_result_accepted() && promise->second.end != absl::InfiniteFuture()) {
    Observe("end", now - told, promise->second.end - told);
  }
  if (event.has_shown() && scheduler::IsFinal(event.shown().state())) told_.erase(promise);
}

}  // namespace deltaworks::services

#include "services/worker/held_attempt.h"

#include <algorithm>

namespace deltaworks::services {
namespace {

// Of one attempt in one report.
constexpr int64_t kReportPointsMax = 4'096;
constexpr int64_t kReportLinesMax = 256;
constexpr int64_t kPointBytes = 96;  // At most, serialised.

bool CheckpointWaits(const HeldAttempt& attempt) {
  return attempt.published.has_value() && attempt.published->step() > attempt.committed_step;
}

// What was left behind goes along: after LEFT the scheduler takes no checkpoint any more. So one
// that waits keeps LEFT back until the lease is confirmed.
bool MaySayLeft(const HeldAttempt& attempt, bool lease_holds) {
  return attempt.left && (attempt.stopping || lease_holds || !CheckpointWaits(attempt));
}

bool MaySayResult(const HeldAttempt& attempt, bool lease_holds) {
  return attempt.result.has_value() && attempt.stage == ResultStage::kVerified &&
         (lease_holds || attempt.result_reported);
}

v1::AttemptReport::Phase PhaseOf(const HeldAttempt& attempt, bool lease_holds) {
  if (attempt.failure.has_value()) return v1::AttemptReport::FAILED;
  if (MaySayLeft(attempt, lease_holds)) return v1::AttemptReport::LEFT;
  if (MaySayResult(attempt, lease_holds) || attempt.result_reported) return v1::AttemptReport::DONE;
  if (!lease_holds) return v1::AttemptReport::PARKED;
  return attempt.training ? v1::AttemptReport::TRAINING : v1::AttemptReport::PREPARING;
}

bool IsLastWord(v1::AttemptReport::Phase phase) {
  return phase == v1::AttemptReport::FAILED || phase == v1::AttemptReport::LEFT ||
         phase == v1::AttemptReport::DONE;
}

// Points and lines beyond the limits wait for the next report.
int64_t AppendNumbered(const HeldAttempt& attempt, const ReportLimits& limits,
                       v1::AttemptReport* report) {
  int64_t bytes = 0;
  report->set_first_log_n(attempt.logs.first_n());
  for (const v1::WorkerLog& line : attempt.logs.items()) {
    const auto size = static_cast<int64_t>(line.ByteSizeLong());
    if (report->logs_size() == kReportLinesMax || bytes + size > limits.bytes_max) break;
    bytes += size;
    *report->add_logs() = line;
  }
  report->set_first_metric_n(attempt.metrics.first_n());
  for (const v1::MetricPoint& point : attempt.metrics.items()) {
    if (report->metrics_size() == kReportPointsMax || bytes + kPointBytes > limits.bytes_max) break;
    bytes += kPointBytes;
    *report->add_metrics() = point;
  }
  return bytes;
}

void AppendResult(const HeldAttempt& attempt, v1::AttemptReport* report) {
  const TrainedResult& trained = *attempt.result;
  v1::ResultReport& result = *report->mutable_result();
  result.set_manifest_digest(trained.artifact->manifest_digest);
  result.set_adapter_digest(trained.adapter_digest);
  result.set_step(trained.step);
  result.set_loss(trained.loss);
  result.set_size_bytes(trained.artifact->size_bytes);
}

}  // namespace

bool HasContent(const HeldAttempt& attempt, bool lease_holds) {
  if (attempt.result_accepted) return false;
  const bool result = MaySayResult(attempt, lease_holds);
  if (!lease_holds && !MaySayLeft(attempt, lease_holds) && !attempt.failure.has_value()) {
    return result;
  }
  return result || !attempt.metrics.empty() || !attempt.logs.empty() ||
         (lease_holds && CheckpointWaits(attempt));
}

int64_t AppendReport(const HeldAttempt& attempt, const ReportLimits& limits,
                     v1::SyncRequest* request) {
  v1::AttemptReport& report = *request->add_attempts();
  report.set_job(attempt.key.job);
  report.set_lease_epoch(attempt.key.lease_epoch);
  report.set_attempt_id(attempt.key.attempt_id);
  report.set_step(attempt.step);
  report.set_tokens_per_second(attempt.tokens_per_second);
  report.set_device_ms(absl::ToInt64Milliseconds(attempt.device_time));

  const v1::AttemptReport::Phase phase = PhaseOf(attempt, limits.lease_holds);
  const bool numbered = limits.content && (limits.lease_holds || IsLastWord(phase));
  const int64_t bytes = numbered ? AppendNumbered(attempt, limits, &report) : 0;
  const bool all_said =
      report.metrics_size() == attempt.metrics.size() && report.logs_size() == attempt.logs.size();
  const bool stopped = attempt.stopping && phase == v1::AttemptReport::LEFT;
  if (IsLastWord(phase) && !all_said && !attempt.result_reported && !stopped) {
    // After its last word nothing more is taken in, so what waits goes first; but for an attempt
    // that was told to stop: nobody wants its numbers, and somebody waits for the device.
    report.set_phase(limits.lease_holds ? v1::AttemptReport::TRAINING : v1::AttemptReport::PARKED);
    return bytes;
  }
  report.set_phase(phase);
  const bool leaves = phase == v1::AttemptReport::LEFT && !attempt.stopping;
  if ((limits.content || leaves) && limits.lease_holds && CheckpointWaits(attempt)) {
    *report.mutable_checkpoint() = *attempt.published;
  }
  if (phase == v1::AttemptReport::FAILED) *report.mutable_failure() = *attempt.failure;
  if (limits.content && !attempt.result_accepted && MaySayResult(attempt, limits.lease_holds) &&
      phase == v1::AttemptReport::DONE) {
    AppendResult(attempt, &report);
  }
  return bytes;
}

}  // namespace deltaworks::services

#include "services/scheduler/testing/scripted_worker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/sha256.h"

namespace deltaworks::services {

std::string ScriptedCheckpoint(const std::string& job, int64_t step) {
  return Sha256Digest(absl::StrCat("checkpoint ", step, " of ", job));
}

std::string ScriptedResult(const std::string& job) {
  return Sha256Digest(absl::StrCat("result of ", job));
}

ScriptedWorker::ScriptedWorker(const std::string& id) : name_(absl::StrCat("workers/", id)) {
  environment_.set_numerics_class("cpu-avx2-f32");
  environment_.set_device("cpu:0");
  environment_.set_device_kind("cpu");
  environment_.set_memory_bytes(int64_t{8} << 30);
}

void ScriptedWorker::Restart() {
  ++incarnation_;
  report_number_ = 0;
  answer_.Clear();
  held_.clear();
}

std::set<std::string> ScriptedWorker::jobs() const {
  std::set<std::string> jobs;
  for (const auto& [id, held] : held_) jobs.insert(held.assignment.job());
  return jobs;
}

void ScriptedWorker::Train(int64_t steps, bool checkpoint) {
  for (auto& [id, held] : held_) {
    if (held.phase == v1::AttemptReport::LEFT || held.phase == v1::AttemptReport::DONE) continue;
    held.phase = v1::AttemptReport::TRAINING;
    for (int64_t i = 0; i < steps && held.step < kScriptedSteps && !held.yielding; ++i) {
      v1::MetricPoint& point = held.points.emplace_back();
      point.set_step(++held.step);
      point.set_loss(4.0 / static_cast<double>(held.step));
      point.set_tokens(held.step * 1000);
      ++held.lines;
      held.device_ms += step_ms_;
    }
    const bool new_steps = held.step > held.assignment.train().start_checkpoint().step();
    if ((checkpoint || held.yielding) && new_steps) held.checkpoint_step = held.step;
    if (held.step == kScriptedSteps) {
      held.phase = v1::AttemptReport::DONE;
    } else if (held.yielding) {
      held.phase = v1::AttemptReport::LEFT;
    }
  }
}

v1::SyncRequest ScriptedWorker::NextReport(bool with_news) {
  v1::SyncRequest report;
  report.set_worker(name_);
  report.set_incarnation(incarnation_);
  report.set_report_number(++report_number_);
  report.set_draining(draining_);
  report.set_seen_term(answer_.term());
  report.set_seen_revision(answer_.revision());
  *report.mutable_environment() = environment_;
  for (const auto& [id, held] : held_) *report.add_attempts() = ReportOf(held, with_news);
  return report;
}

v1::AttemptReport ScriptedWorker::ReportOf(const Held& held, bool with_news) {
  v1::AttemptReport report;
  const std::string& job = held.assignment.job();
  report.set_job(job);
  report.set_lease_epoch(held.assignment.lease_epoch());
  report.set_attempt_id(held.assignment.attempt_id());
  report.set_phase(held.phase);
  report.set_step(held.step);
  report.set_device_ms(held.device_ms);
  if (!with_news) return report;
  report.set_tokens_per_second(1000);
  report.set_first_metric_n(held.points_acknowledged + 1);
  for (size_t n = held.points_acknowledged; n < held.points.size(); ++n) {
    *report.add_metrics() = held.points[n];
  }
  report.set_first_log_n(held.lines_acknowledged + 1);
  for (int64_t n = held.lines_acknowledged; n < std::min(held.lines, held.lines_acknowledged + 256);
       ++n) {
    v1::WorkerLog& line = *report.add_logs();
    line.set_level(v1::JobEvent::INFO);
    line.set_message(absl::StrCat("line ", n + 1));
  }
  if (held.checkpoint_step > 0) {
    report.mutable_checkpoint()->set_step(held.checkpoint_step);
    report.mutable_checkpoint()->set_manifest_digest(ScriptedCheckpoint(job, held.checkpoint_step));
    report.mutable_checkpoint()->set_size_bytes(1 << 20);
  }
  if (held.phase == v1::AttemptReport::DONE && !held.result_accepted) {
    report.mutable_result()->set_manifest_digest(ScriptedResult(job));
    report.mutable_result()->set_adapter_digest(Sha256Digest(job));
    report.mutable_result()->set_step(kScriptedSteps);
    report.mutable_result()->set_loss(0.04);
    report.mutable_result()->set_size_bytes(1 << 10);
  }
  return report;
}

void ScriptedWorker::TakeAnswer(const v1::SyncResponse& answer) {
  if (std::make_pair(answer.term(), answer.revision()) <
      std::make_pair(answer_.term(), answer_.revision())) {
    return;
  }
  answer_ = answer;
  for (const v1::Assignment& assignment : answer.assignments()) Obey(assignment);
}

void ScriptedWorker::Obey(const v1::Assignment& assignment) {
  if (assignment.desired() == v1::Assignment::STOP) return Stop(assignment);
  const auto found = held_.find(assignment.attempt_id());
  if (found == held_.end()) {
    if (!assignment.has_train()) return;
    Held& held = held_[assignment.attempt_id()];
    held.assignment = assignment;
    held.step = assignment.train().start_checkpoint().step();
    return;
  }
  Held& held = found->second;
  held.points_acknowledged =
      std::max(held.points_acknowledged, assignment.metrics_acknowledged_n());
  held.lines_acknowledged = std::max(held.lines_acknowledged, assignment.logs_acknowledged_n());
  if (assignment.committed_step() >= held.checkpoint_step) held.checkpoint_step = 0;
  held.yielding = held.yielding || assignment.desired() == v1::Assignment::YIELD;
}

void ScriptedWorker::Stop(const v1::Assignment& assignment) {
  const auto found = held_.find(assignment.attempt_id());
  if (found == held_.end()) return;
  Held& held = found->second;
  if (held.phase == v1::AttemptReport::DONE && assignment.result_accepted()) {
    // Keeps its files until the job is final, and says the result again if some were lost.
    held.result_accepted = assignment.missing_blobs().empty();
    if (assignment.job_final()) held_.erase(found);
    return;
  }
  if (held.phase == v1::AttemptReport::LEFT || assignment.job_final()) {
    held_.erase(found);
  } else {
    held.phase = v1::AttemptReport::LEFT;
  }
}

}  // namespace deltaworks::services

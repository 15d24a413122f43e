#include "scheduler/decide_report.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "scheduler/attempt_end.h"
#include "scheduler/job_draft.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/metrics_merge.h"
#include "scheduler/proto_time.h"
#include "trainer/base/sha256.h"
#include "trainer/base/utf8_prefix.h"

namespace deltaworks::scheduler {
namespace {

constexpr absl::Duration kDeviceTimeUnsaidMax = absl::Seconds(10);

// The worker will say nothing more of this attempt, so nothing may wait for the next report.
bool IsLastWord(const v1::AttemptReport& report) {
  return report.phase() == v1::AttemptReport::LEFT || report.phase() == v1::AttemptReport::FAILED ||
         report.phase() == v1::AttemptReport::DONE;
}

// Whether the report's checkpoint will be committed.
bool BringsCheckpoint(const JobRecord& record, const v1::AttemptReport& report) {
  const v1::CheckpointReport& offered = report.checkpoint();
  return report.has_checkpoint() && record.job().status().state() != v1::CANCELLING &&
         offered.step() > CheckpointStep(record) &&
         offered.step() <= record.job().status().progress().total_steps() &&
         IsSha256Digest(offered.manifest_digest());
}

// With a new checkpoint at once: the attempt after this one does not repeat the steps before it, so
// their numbers must not be in the worker's memory alone.
bool MayWriteNow(const JobRecord& record, const v1::AttemptReport& report,
                 const DecisionContext& context) {
  return IsLastWord(report) || BringsCheckpoint(record, report) || !record.has_metrics_time() ||
         context.now >= FromProto(record.metrics_time()) + context.options.metrics_interval;
}

void TakeLogs(const v1::AttemptReport& report, const Options& options, JobDraft* draft) {
  int64_t n = report.first_log_n();
  for (const v1::WorkerLog& line : report.logs()) {
    const int64_t number = n++;
    if (number <= draft->record().current().logs_acknowledged_n()) continue;
    const int64_t lines = draft->record().log_lines();
    Event event = draft->NewEvent();
    if (lines <= options.log_lines_max) {
      const bool last = lines == options.log_lines_max;
      event = draft->NewEvent(v1::JobEvent::WORKER_LOG, draft->state(), v1::JOB_REASON_UNSPECIFIED,
                              last ? absl::StrCat("more than ", options.log_lines_max,
                                                  " lines of log: dropped from here")
                                   : line.message());
      event.mutable_shown()->set_level(
          v1::JobEvent::Level_IsValid(line.level()) ? line.level() : v1::JobEvent::INFO);
    }
    event.mutable_log_taken()->set_acknowledged_n(number);
    draft->Add(std::move(event));
  }
}

void TakeMetrics(const v1::AttemptReport& report, JobDraft* draft) {
  const JobRecord& record = draft->record();
  MergedMetrics merged = MergeMetrics(record, report);
  if (merged.acknowledged_n == record.current().metrics_acknowledged_n()) return;

  Event event = draft->NewEvent();
  const bool tell = !merged.difference.empty() && !record.current().metrics_differed();
  if (tell) {
    event = draft->NewEvent(v1::JobEvent::METRICS_DIFFER, draft->state(),
                            v1::JOB_REASON_UNSPECIFIED, merged.difference);
    event.mutable_shown()->set_level(v1::JobEvent::ALERT);
    event.mutable_shown()->set_step(merged.difference_step);
  }
  MetricsRecorded& metrics = *event.mutable_metrics_recorded();
  metrics.set_acknowledged_n(merged.acknowledged_n);
  metrics.set_differed(tell);
  metrics.set_first_index(record.job().status().metric_count() + 1);
  const int64_t total_steps = record.job().status().progress().total_steps();
  metrics.set_step(std::clamp<int64_t>(report.step(), 0, total_steps));
  metrics.set_tokens_per_second(report.tokens_per_second());
  for (v1::MetricPoint& point : merged.points) *metrics.add_points() = std::move(point);
  draft->Add(std::move(event));
}

void TakeStart(const v1::AttemptReport& report, JobDraft* draft) {
  if (report.phase() != v1::AttemptReport::TRAINING || draft->record().current().started()) return;
  Event event =
      draft->NewEvent(v1::JobEvent::ATTEMPT_STARTED, draft->state(), v1::JOB_REASON_UNSPECIFIED,
                      absl::StrCat("training on ", draft->record().current().worker()));
  event.mutable_attempt_started();
  draft->Add(std::move(event));
}

void TakeCheckpoint(const v1::AttemptReport& report, JobDraft* draft) {
  const JobRecord& record = draft->record();
  if (!BringsCheckpoint(record, report)) return;
  const v1::CheckpointReport& offered = report.checkpoint();
  Event event = draft->NewEvent(v1::JobEvent::CHECKPOINT_COMMITTED, draft->state(),
                                v1::JOB_REASON_UNSPECIFIED,
                                absl::StrCat("checkpoint at step ", offered.step()));
  event.mutable_shown()->set_step(offered.step());
  v1::Checkpoint& checkpoint = *event.mutable_checkpoint_committed()->mutable_checkpoint();
  checkpoint.set_step(offered.step());
  checkpoint.set_manifest_digest(offered.manifest_digest());
  checkpoint.set_size_bytes(offered.size_bytes());
  checkpoint.set_lease_epoch(record.current().lease_epoch());
  checkpoint.set_attempt_id(record.current().attempt_id());
  *checkpoint.mutable_commit_time() = event.time();
  draft->Add(std::move(event));
}

void TakeResult(const v1::AttemptReport& report, const std::string& build_version,
                const Options& options, JobDraft* draft) {
  const v1::ResultReport& result = report.result();
  if (!report.has_result() || !IsSha256Digest(result.manifest_digest()) || result.step() < 1 ||
      result.step() < CheckpointStep(draft->record())) {
    return;
  }
  if (draft->state() == v1::CANCELLING) {
    draft->Add(draft->NewEvent(v1::JobEvent::RESULT_DISCARDED, v1::CANCELLING, v1::CANCEL_REQUESTED,
                               "the job finished after it was cancelled; its result is discarded"));
    EndAttempt({.end = v1::Attempt::LEFT}, options, draft);
    return;
  }
  Event event = draft->NewEvent(
      v1::JobEvent::STATE_CHANGED, v1::FINALIZING, v1::RESULT_ACCEPTED,
      absl::StrCat("finished at step ", result.step(), "; the adapter is being registered"));
  event.mutable_shown()->set_step(result.step());
  *event.mutable_result_accepted()->mutable_result() = result;
  event.mutable_result_accepted()->set_build_version(build_version);
  draft->Add(std::move(event));
}

v1::Failure ReportedFailure(const v1::AttemptReport& report) {
  v1::Failure failure = report.failure();
  if (failure.code().empty()) failure.set_code("WORKER_ERROR");
  failure.set_code(std::string(Utf8Prefix(failure.code(), 64)));
  failure.set_message(std::string(Utf8Prefix(failure.message(), kFailureMessageBytesMax)));
  failure.set_field(std::string(Utf8Prefix(failure.field(), 256)));
  if (failure.fault() != v1::Failure::USER) failure.set_fault(v1::Failure::PLATFORM);
  return failure;
}

// That the gang's rank 0 and nobody else says.
bool IsRankZero(const CurrentAttempt& current, const v1::SyncRequest& sync) {
  return current.worker() == sync.worker();
}

bool IsOf(const CurrentAttempt& current, const v1::SyncRequest& sync) {
  return IsMember(current, sync.worker(), sync.incarnation()) && IsHolder(current, sync.worker());
}

void TakeDrain(const v1::SyncRequest& sync, JobDraft* draft) {
  if (draft->state() != v1::RUNNING || !IsOf(draft->record().current(), sync) ||
      draft->record().current().ordered() != v1::Assignment::DESIRED_UNSPECIFIED) {
    return;
  }
  Event event = draft->NewEvent(v1::JobEvent::YIELD_ORDERED, v1::RUNNING, v1::DRAINED,
                                absl::StrCat(sync.worker(), " was told to stop"));
  event.mutable_attempt_ordered()->set_desired(v1::Assignment::YIELD);
  draft->Add(std::move(event));
}

void TakeEnd(const v1::AttemptReport& report, const v1::SyncRequest& sync, const Options& options,
             JobDraft* draft) {
  const bool draining = sync.draining();
  const auto end = [&](const AttemptEnd& attempt_end, bool done = false) {
    EndOn(sync.worker(), attempt_end, done, options, draft);
  };
  switch (report.phase()) {
    case v1::AttemptReport::FAILED:
      return end(
          {.end = v1::Attempt::FAILED, .failure = ReportedFailure(report), .draining = draining});
    case v1::AttemptReport::LEFT: {
      // A worker that left before it could say that it drains: the others may take their
      // checkpoint.
      if (draining && HolderCount(draft->record().current()) > 1) TakeDrain(sync, draft);
      const bool told =
          draining || draft->record().current().ordered() != v1::Assignment::DESIRED_UNSPECIFIED;
      const bool done = !IsRankZero(draft->record().current(), sync) &&
                        report.step() >= draft->record().job().status().progress().total_steps();
      return end({.end = told || done ? v1::Attempt::LEFT : v1::Attempt::LEFT_UNASKED,
                  .draining = draining},
                 done);
    }
    case v1::AttemptReport::DONE:
      if (!IsRankZero(draft->record().current(), sync)) return;
      // Sent again until it is answered: the others are not done yet.
      if (HolderCount(draft->record().current()) > 1) return;
      TakeResult(report, sync.environment().build_version(), options, draft);
      return;
    default:
      return;
  }
}

// The accepted result came again: its worker has uploaded what was missing.
void TakeRepeatedResult(const v1::AttemptReport& report, JobDraft* draft) {
  const JobRecord& record = draft->record();
  if (draft->state() != v1::FINALIZING || record.missing_blobs().empty() ||
      !IsResultAttempt(record, report.lease_epoch(), report.attempt_id()) ||
      report.result().manifest_digest() != record.job().status().result().manifest_digest()) {
    return;
  }
  Event event = draft->NewEvent(v1::JobEvent::BLOBS_MISSING, v1::FINALIZING, v1::RESULT_ACCEPTED,
                                "the worker uploaded the missing blobs again");
  event.mutable_version_blobs_missing();
  draft->Add(std::move(event));
}

// With the next event; a worker cannot claim more than has passed since the grant.
void TakeDeviceTime(const v1::AttemptReport& report, JobDraft* draft) {
  const JobRecord& record = draft->record();
  const v1::Attempt& attempt = *record.job().status().attempts().rbegin();
  const int64_t passed = absl::ToInt64Milliseconds(draft->now() - FromProto(attempt.grant_time()));
  // A gang is on as many devices all the time.
  const int64_t device_ms = std::min(report.device_ms(), passed) * GangSizeOf(record.job());
  if (device_ms > record.current().device_ms()) draft->CountDeviceTime(device_ms);
}

// Where nothing else was to be said for long, as in a step that takes minutes.
void WriteDeviceTime(const v1::AttemptReport& report, JobDraft* draft) {
  if (!draft->counts_device_time()) return;
  const JobRecord& record = draft->record();
  const absl::Duration more = absl::Milliseconds(report.device_ms() * GangSizeOf(record.job()) -
                                                 record.current().device_ms());
  if (more >= kDeviceTimeUnsaidMax) {
    draft->Add(draft->NewEvent());
  } else {
    draft->CountDeviceTime(0);
  }
}

// A result or a checkpoint in the same report has been taken before.
void StopAtTimeLimit(const Options& options, JobDraft* draft) {
  const v1::Job& job = draft->record().job();
  if (!job.timing().has_time_limit() || !draft->record().has_current()) return;
  const absl::Duration limit = FromProto(job.timing().time_limit());
  if (absl::Milliseconds(job.status().device_ms()) < limit) return;
  v1::Failure failure;
  failure.set_code("TIME_LIMIT_EXCEEDED");
  failure.set_fault(v1::Failure::USER);
  failure.set_field("timing.time_limit");
  failure.set_message(absl::StrCat("used ", job.status().device_ms(),
                                   " ms of device time, want at most ",
                                   absl::FormatDuration(limit)));
  EndAttempt({.end = v1::Attempt::STOPPED, .failure = std::move(failure)}, options, draft);
}

void TakeAttempt(const v1::AttemptReport& report, const v1::SyncRequest& sync,
                 const DecisionContext& context, JobDraft* draft) {
  if (!IsCurrent(draft->record(), report.lease_epoch(), report.attempt_id()) ||
      !IsOf(draft->record().current(), sync)) {
    TakeRepeatedResult(report, draft);
    return;
  }
  if (!IsRankZero(draft->record().current(), sync)) {
    TakeEnd(report, sync, context.options, draft);
    return;
  }
  TakeDeviceTime(report, draft);
  TakeStart(report, draft);
  if (MayWriteNow(draft->record(), report, context)) {
    TakeLogs(report, context.options, draft);
    TakeMetrics(report, draft);
  }
  TakeCheckpoint(report, draft);
  TakeEnd(report, sync, context.options, draft);
  WriteDeviceTime(report, draft);
  StopAtTimeLimit(context.options, draft);
}

// Drafts of one report, by job.
class Drafts {
 public:
  explicit Drafts(const DecisionContext& context) : context_(context) {}

  // nullptr if there is no such job.
  JobDraft* Get(const std::string& job) {
    const JobRecord* record = context_.state.FindJob(job);
    if (record == nullptr) return nullptr;
    return &drafts_.try_emplace(job, record, context_.now).first->second;
  }

  void AppendEventsTo(std::vector<Event>* events) {
    for (auto& [job, draft] : drafts_) {
      for (Event& event : draft.TakeEvents()) events->push_back(std::move(event));
    }
  }

 private:
  const DecisionContext& context_;
  absl::btree_map<std::string, JobDraft> drafts_;
};

void EndLowerIncarnations(const v1::SyncRequest& sync, const DecisionContext& context,
                          Drafts* drafts) {
  for (const std::string& job : context.state.JobsOn(sync.worker())) {
    JobDraft* draft = drafts->Get(job);
    if (!IsMember(draft->record().current(), sync.worker(), sync.incarnation())) {
      EndOn(sync.worker(), {.end = v1::Attempt::WORKER_RESTARTED}, /*done=*/false, context.options,
            draft);
    }
  }
}

}  // namespace

Decision DecideReport(const v1::SyncRequest& report, const DecisionContext& context) {
  Decision decision;
  Drafts drafts(context);
  const int64_t known = context.state.WorkerIncarnation(report.worker());
  if (report.incarnation() < known) return decision;
  if (report.incarnation() > known) {
    Event event;
    *event.mutable_time() = ToProto(context.now);
    event.mutable_worker_joined()->set_worker(report.worker());
    event.mutable_worker_joined()->set_incarnation(report.incarnation());
    decision.events.push_back(std::move(event));
    EndLowerIncarnations(report, context, &drafts);
  }
  for (const v1::AttemptReport& attempt : report.attempts()) {
    if (JobDraft* draft = drafts.Get(attempt.job())) {
      TakeAttempt(attempt, report, context, draft);
    }
  }
  if (report.draining()) {
    // Also what it was granted and has not listed yet.
    for (const std::string& job : context.state.JobsOn(report.worker())) {
      TakeDrain(report, drafts.Get(job));
    }
  }
  drafts.AppendEventsTo(&decision.events);
  return decision;
}

}  // namespace deltaworks::scheduler

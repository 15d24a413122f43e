#include "scheduler/job_fold.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/proto_time.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::scheduler {
namespace {

// Constants and not settings, because replay must not depend on settings.
constexpr int kAttemptsShown = 32;
constexpr int kRecentMetricsMax = 8192;

absl::Status Damaged(const Event& event, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("event ", event.shown().seq(), " of ", event.job(), ": ", what));
}

template <typename T>
void DropFirst(int count, google::protobuf::RepeatedPtrField<T>* items) {
  if (count > 0) items->DeleteSubrange(0, count);
}

v1::Attempt* LastAttempt(JobRecord* record) {
  auto* attempts = record->mutable_job()->mutable_status()->mutable_attempts();
  return &*attempts->rbegin();
}

void FoldTiming(const v1::Timing& timing, const Event& event, JobRecord* record) {
  v1::Job& job = *record->mutable_job();
  if (&timing != &job.timing()) *job.mutable_timing() = timing;
  record->clear_waits_until();
  if (timing.has_start_after() && FromProto(timing.start_after()) > FromProto(event.time())) {
    *record->mutable_waits_until() = timing.start_after();
  }
}

void FoldCreated(const JobCreated& created, const Event& event, JobRecord* record) {
  v1::Job& job = *record->mutable_job();
  job = created.job();
  *job.mutable_create_time() = event.time();
  v1::JobStatus& status = *job.mutable_status();
  status.set_state(v1::VALIDATING);
  status.set_reason(event.shown().reason());
  status.set_message(event.shown().message());
  status.set_exact(true);
  FoldTiming(job.timing(), event, record);
}

void FoldValidated(const JobValidated& validated, JobRecord* record) {
  v1::Job& job = *record->mutable_job();
  *job.mutable_train() = validated.spec();
  *job.mutable_status()->mutable_facts() = validated.facts();
  v1::JobStatus& status = *job.mutable_status();
  status.mutable_progress()->set_total_steps(validated.facts().total_steps());
  if (validated.has_estimate()) *status.mutable_estimate() = validated.estimate();
  if (validated.has_start_bound()) *status.mutable_start_bound() = validated.start_bound();
}

void FoldGranted(const AttemptGranted& granted, const Event& event, JobRecord* record) {
  v1::JobStatus& status = *record->mutable_job()->mutable_status();
  *status.add_attempts() = granted.attempt();
  DropFirst(status.attempts_size() - kAttemptsShown, status.mutable_attempts());
  status.set_attempt_count(status.attempt_count() + 1);
  status.set_lease_epoch(granted.attempt().lease_epoch());
  if (status.numerics_class() != granted.attempt().numerics_class()) {
    record->clear_recent_metrics();  // Another class may repeat a step with other numbers.
    status.set_numerics_class(granted.attempt().numerics_class());
  }
  if (granted.class_changed()) status.set_exact(false);
  if (!record->job().has_start_time()) *record->mutable_job()->mutable_start_time() = event.time();

  CurrentAttempt& current = *record->mutable_current();
  current.set_attempt_id(granted.attempt().attempt_id());
  current.set_lease_epoch(granted.attempt().lease_epoch());
  current.set_worker(granted.attempt().worker());
  current.set_worker_incarnation(granted.attempt().worker_incarnation());
  current.set_alone(granted.attempt().alone());
  *current.mutable_members() = granted.members();
  current.set_gang_token(granted.gang_token());
  if (status.has_checkpoint()) *current.mutable_start_checkpoint() = status.checkpoint();
}

void FoldOrdered(const AttemptOrdered& ordered, const Event& event, JobRecord* record) {
  CurrentAttempt& current = *record->mutable_current();
  current.set_ordered(ordered.desired());
  current.set_order_reason(event.shown().reason());
  current.set_order_message(event.shown().message());
  *current.mutable_order_time() = event.time();
}

absl::Status FoldMemberLeft(const MemberLeft& left, const Event& event, JobRecord* record) {
  CurrentAttempt& current = *record->mutable_current();
  for (GangMember& member : *current.mutable_members()) {
    if (member.worker() != left.worker() || member.left()) continue;
    member.set_left(true);
    if (!left.has_broken()) return absl::OkStatus();
    *current.mutable_broken() = left.broken();
    AttemptOrdered stop;
    stop.set_desired(v1::Assignment::STOP);
    FoldOrdered(stop, event, record);
    return absl::OkStatus();
  }
  return Damaged(event, absl::StrCat(left.worker(), " is not in the gang, or left before"));
}

// What the end of any attempt does.
void CloseAttempt(v1::Attempt::End end, const Event& event, JobRecord* record) {
  v1::Attempt& attempt = *LastAttempt(record);
  attempt.set_end(end);
  *attempt.mutable_end_time() = event.time();
  record->clear_current();
  v1::Progress& progress = *record->mutable_job()->mutable_status()->mutable_progress();
  progress.clear_tokens_per_second();
  progress.clear_eta_seconds();
}

void FoldEnded(const AttemptEnded& ended, const Event& event, JobRecord* record) {
  v1::JobStatus& status = *record->mutable_job()->mutable_status();
  v1::Attempt& attempt = *LastAttempt(record);
  if (ended.has_failure()) *attempt.mutable_failure() = ended.failure();
  attempt.set_cost_retry(ended.cost_retry());
  if (ended.cost_retry()) status.set_retries_used(status.retries_used() + 1);
  if (ended.death()) {
    status.set_deaths_without_checkpoint(status.deaths_without_checkpoint() + 1);
    if (record->current().alone()) record->set_deaths_alone(record->deaths_alone() + 1);
  }
  record->set_run_alone(ended.run_alone());
  if (ended.has_retry_time()) *record->mutable_waits_until() = ended.retry_time();
  if (ended.has_job_failure()) *status.mutable_failure() = ended.job_failure();
  // The next attempt begins there.
  status.mutable_progress()->set_step(status.checkpoint().step());
  CloseAttempt(ended.end(), event, record);
}

void FoldCheckpoint(const CheckpointCommitted& committed, JobRecord* record) {
  v1::JobStatus& status = *record->mutable_job()->mutable_status();
  *status.mutable_checkpoint() = committed.checkpoint();
  *record->add_checkpoints() = committed.checkpoint();
  const int kept = std::max(2, record->job().train().arguments().save_total_limit());
  DropFirst(record->checkpoints_size() - kept, record->mutable_checkpoints());

  status.set_deaths_without_checkpoint(0);
  record->set_deaths_alone(0);
  record->set_run_alone(false);
  record->mutable_current()->set_made_checkpoint(true);
  LastAttempt(record)->set_checkpoint_step(committed.checkpoint().step());

  auto* recent = record->mutable_recent_metrics();
  const auto later = std::find_if(recent->begin(), recent->end(), [&](const v1::MetricPoint& p) {
    return p.step() > committed.checkpoint().step();
  });
  DropFirst(static_cast<int>(later - recent->begin()), recent);
}

absl::Status FoldMetrics(const MetricsRecorded& metrics, const Event& event, JobRecord* record) {
  v1::JobStatus& status = *record->mutable_job()->mutable_status();
  if (!metrics.points().empty() && metrics.first_index() != status.metric_count() + 1) {
    return Damaged(event, absl::StrCat("its metrics begin at index ", metrics.first_index(),
                                       ", want ", status.metric_count() + 1));
  }
  record->mutable_current()->set_metrics_acknowledged_n(metrics.acknowledged_n());
  record->mutable_current()->set_metrics_differed(record->current().metrics_differed() ||
                                                  metrics.differed());
  *record->mutable_metrics_time() = event.time();
  status.set_metric_count(status.metric_count() + metrics.points_size());

  v1::Progress& progress = *status.mutable_progress();
  for (const v1::MetricPoint& point : metrics.points()) {
    *record->add_recent_metrics() = point;
    record->set_metric_steps_end(point.step() + 1);
    if (point.step() > 0) {
      progress.set_loss(point.loss());
      progress.set_tokens(point.tokens());
    }
    if (point.has_eval_loss()) progress.set_eval_loss(point.eval_loss());
  }
  DropFirst(record->recent_metrics_size() - kRecentMetricsMax, record->mutable_recent_metrics());

  progress.set_step(metrics.step());
  progress.set_tokens_per_second(metrics.tokens_per_second());
  progress.clear_eta_seconds();
  if (metrics.tokens_per_second() > 0 && record->metric_steps_end() > 1) {
    const double tokens_per_step = static_cast<double>(progress.tokens()) /
                                   static_cast<double>(record->metric_steps_end() - 1);
    const int64_t steps_left = std::max<int64_t>(0, progress.total_steps() - metrics.step());
    progress.set_eta_seconds(static_cast<double>(steps_left) * tokens_per_step /
                             metrics.tokens_per_second());
  }
  return absl::OkStatus();
}

void FoldLog(const LogTaken& log, const Event& event, JobRecord* record) {
  record->mutable_current()->set_logs_acknowledged_n(log.acknowledged_n());
  record->set_log_lines(record->log_lines() + 1);
  *record->mutable_metrics_time() = event.time();
}

void FoldResult(const v1::ResultReport& report, const Event& event, JobRecord* record) {
  v1::JobStatus& status = *record->mutable_job()->mutable_status();
  v1::TrainResult& result = *status.mutable_result();
  result.set_manifest_digest(report.manifest_digest());
  result.set_adapter_digest(report.adapter_digest());
  result.set_step(report.step());
  result.set_loss(report.loss());
  result.set_size_bytes(report.size_bytes());
  record->set_result_attempt_id(record->current().attempt_id());
  record->set_result_build_version(event.result_accepted().build_version());
  status.mutable_progress()->set_step(report.step());
  CloseAttempt(v1::Attempt::COMPLETED, event, record);
}

absl::Status FoldDeviceTime(const Event& event, JobRecord* record) {
  if (event.attempt_device_ms() == 0) return absl::OkStatus();
  if (!record->has_current() || event.attempt_device_ms() < record->current().device_ms()) {
    return Damaged(event, absl::StrCat("device time of ", event.attempt_device_ms(), " ms follows ",
                                       record->current().device_ms(), " ms"));
  }
  v1::JobStatus& status = *record->mutable_job()->mutable_status();
  status.set_device_ms(status.device_ms() + event.attempt_device_ms() -
                       record->current().device_ms());
  record->mutable_current()->set_device_ms(event.attempt_device_ms());
  return absl::OkStatus();
}

bool NeedsCurrentAttempt(Event::KindCase kind) {
  return kind == Event::kAttemptStarted || kind == Event::kAttemptOrdered ||
         kind == Event::kAttemptEnded || kind == Event::kCheckpointCommitted ||
         kind == Event::kMetricsRecorded || kind == Event::kLogTaken ||
         kind == Event::kResultAccepted || kind == Event::kMemberLeft;
}

absl::Status CheckFollows(const Event& event, const JobRecord& record) {
  const v1::JobStatus& status = record.job().status();
  const bool creates = event.kind_case() == Event::kJobCreated;
  if (creates != record.job().name().empty()) {
    return Damaged(event, creates ? "the job exists already" : "the job does not exist");
  }
  if (event.has_shown() && event.shown().seq() != status.last_event_seq() + 1) {
    return Damaged(event, absl::StrCat("want sequence number ", status.last_event_seq() + 1));
  }
  if (NeedsCurrentAttempt(event.kind_case()) && !record.has_current()) {
    return Damaged(event, "the job has no current attempt");
  }
  if (event.has_attempt_granted() &&
      (record.has_current() ||
       event.attempt_granted().attempt().lease_epoch() != status.lease_epoch() + 1)) {
    return Damaged(event,
                   absl::StrCat("grants epoch ", event.attempt_granted().attempt().lease_epoch(),
                                " after ", status.lease_epoch()));
  }
  return absl::OkStatus();
}

absl::Status FoldKind(const Event& event, JobRecord* record) {
  switch (event.kind_case()) {
    case Event::kJobCreated:
      FoldCreated(event.job_created(), event, record);
      break;
    case Event::kJobValidated:
      FoldValidated(event.job_validated(), record);
      break;
    case Event::kAttemptGranted:
      FoldGranted(event.attempt_granted(), event, record);
      break;
    case Event::kAttemptStarted:
      record->mutable_current()->set_started(true);
      break;
    case Event::kAttemptOrdered:
      FoldOrdered(event.attempt_ordered(), event, record);
      break;
    case Event::kAttemptEnded:
      FoldEnded(event.attempt_ended(), event, record);
      break;
    case Event::kMemberLeft:
      return FoldMemberLeft(event.member_left(), event, record);
    case Event::kCheckpointCommitted:
      FoldCheckpoint(event.checkpoint_committed(), record);
      break;
    case Event::kMetricsRecorded:
      return FoldMetrics(event.metrics_recorded(), event, record);
    case Event::kLogTaken:
      FoldLog(event.log_taken(), event, record);
      break;
    case Event::kResultAccepted:
      FoldResult(event.result_accepted().result(), event, record);
      break;
    case Event::kVersionBlobsMissing:
      *record->mutable_missing_blobs() = event.version_blobs_missing().digests();
      break;
    case Event::kVersionCreated:
      record->mutable_job()->mutable_status()->mutable_result()->set_version(
          event.version_created().version());
      break;
    case Event::kJobFailed:
      *record->mutable_job()->mutable_status()->mutable_failure() = event.job_failed().failure();
      break;
    case Event::kWorkerPromised:
      record->set_promised_worker(event.worker_promised().worker());
      *record->mutable_promise_time() = event.time();
      break;
    case Event::kStartReached:
      record->clear_waits_until();
      break;
    case Event::kJobUpdated:
      record->mutable_job()->set_priority_class(event.job_updated().priority_class());
      FoldTiming(event.job_updated().timing(), event, record);
      if (event.job_updated().has_start_bound()) {
        *record->mutable_job()->mutable_status()->mutable_start_bound() =
            event.job_updated().start_bound();
      }
      break;
    case Event::kStartBoundSet:
      *record->mutable_job()->mutable_status()->mutable_start_bound() =
          event.start_bound_set().start_bound();
      break;
    case Event::kSchedulerStarted:
    case Event::kWorkerJoined:
    case Event::kQuotaSet:
    case Event::kWorkerModeSet:
      return Damaged(event, "an event of the platform names a job");
    case Event::kJobArchived:
    case Event::kJobDeleted:
      return Damaged(event, "it takes the job out of the state, want State to fold it");
    case Event::KIND_NOT_SET:
      break;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status FoldIntoJob(const Event& event, JobRecord* record) {
  DW_RETURN_IF_ERROR(CheckFollows(event, *record));
  DW_RETURN_IF_ERROR(FoldDeviceTime(event, record));
  DW_RETURN_IF_ERROR(FoldKind(event, record));

  v1::Job& job = *record->mutable_job();
  *job.mutable_update_time() = event.time();
  if (!event.has_shown()) return absl::OkStatus();
  const v1::JobEvent& shown = event.shown();
  job.mutable_status()->set_last_event_seq(shown.seq());
  if (shown.state() == job.status().state()) return absl::OkStatus();
  DW_RETURN_IF_ERROR(JobStateMachine::Move(shown.state(), shown.reason(), shown.message(), &job));
  if (shown.state() != v1::QUEUED) {
    record->clear_promised_worker();
    record->clear_promise_time();
  }
  if (IsFinal(shown.state())) {
    record->clear_recent_metrics();
    record->clear_missing_blobs();
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::scheduler

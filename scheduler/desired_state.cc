#include "scheduler/desired_state.h"

#include <algorithm>
#include <string>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "scheduler/job_record.h"
#include "scheduler/job_state.h"
#include "scheduler/proto_time.h"

namespace deltaworks::scheduler {
namespace {

v1::Assignment Name(const std::string& job, int64_t lease_epoch, const std::string& attempt_id) {
  v1::Assignment assignment;
  assignment.set_job(job);
  assignment.set_lease_epoch(lease_epoch);
  assignment.set_attempt_id(attempt_id);
  return assignment;
}

v1::TrainTask Task(const JobRecord& record, absl::string_view worker, const Options& options) {
  v1::TrainTask task;
  *task.mutable_spec() = record.job().train();
  *task.mutable_facts() = record.job().status().facts();
  if (record.current().has_start_checkpoint()) {
    *task.mutable_start_checkpoint() = record.current().start_checkpoint();
  }
  *task.mutable_checkpoint_interval() = ToProto(options.checkpoint_interval);
  for (const GangMember& member : record.current().members()) {
    v1::Gang& gang = *task.mutable_gang();
    if (member.worker() == worker) gang.set_rank(gang.workers_size());
    gang.add_workers(member.worker());
    gang.add_addresses(member.address());
    gang.set_token(record.current().gang_token());
  }
  return task;
}

v1::Assignment OfCurrent(const JobRecord& record, absl::string_view worker, bool listed,
                         const Options& options, absl::Time now) {
  const CurrentAttempt& current = record.current();
  v1::Assignment assignment =
      Name(record.job().name(), current.lease_epoch(), current.attempt_id());
  assignment.set_committed_step(CheckpointStep(record));
  assignment.set_metrics_acknowledged_n(current.metrics_acknowledged_n());
  assignment.set_logs_acknowledged_n(current.logs_acknowledged_n());
  if (current.ordered() == v1::Assignment::DESIRED_UNSPECIFIED) {
    assignment.set_desired(v1::Assignment::RUN);
    if (!listed) *assignment.mutable_train() = Task(record, worker, options);
    return assignment;
  }
  assignment.set_desired(current.ordered());
  assignment.set_message(current.order_message());
  if (current.ordered() != v1::Assignment::YIELD) return assignment;
  if (now >= FromProto(current.order_time()) + options.yield_grace) {
    assignment.set_desired(v1::Assignment::STOP);
    assignment.set_message(absl::StrCat(current.order_message(), "; it did not leave within ",
                                        absl::FormatDuration(options.yield_grace)));
  } else {
    *assignment.mutable_yield_grace() = ToProto(options.yield_grace);
  }
  return assignment;
}

v1::Assignment OfEnded(const JobRecord& record, const v1::AttemptReport& report) {
  v1::Assignment assignment = Name(report.job(), report.lease_epoch(), report.attempt_id());
  assignment.set_desired(v1::Assignment::STOP);
  assignment.set_committed_step(CheckpointStep(record));
  assignment.set_job_final(IsFinal(StateOf(record)));
  if (IsResultAttempt(record, report.lease_epoch(), report.attempt_id())) {
    assignment.set_result_accepted(!report.has_result() ||
                                   report.result().manifest_digest() ==
                                       record.job().status().result().manifest_digest());
    *assignment.mutable_missing_blobs() = record.missing_blobs();
    assignment.set_message("its result was accepted");
  } else {
    assignment.set_message("this attempt is not current");
  }
  return assignment;
}

v1::Assignment OfArchived(const ArchivedJob& archived, const v1::AttemptReport& report) {
  if (archived.record != nullptr) return OfEnded(*archived.record, report);
  v1::Assignment assignment = Name(report.job(), report.lease_epoch(), report.attempt_id());
  assignment.set_desired(v1::Assignment::STOP);
  assignment.set_job_final(true);
  assignment.set_message("the job was deleted");
  return assignment;
}

}  // namespace

std::vector<v1::Assignment> DesiredState(const State& state, JobArchive& archive,
                                         const LeaseTable& leases, const v1::SyncRequest& report,
                                         const Options& options, absl::Time now) {
  absl::btree_set<std::string> listed;  // Ids of reported attempts.
  for (const v1::AttemptReport& attempt : report.attempts()) listed.insert(attempt.attempt_id());

  std::vector<v1::Assignment> assignments;
  for (const std::string& job : state.JobsOn(report.worker())) {
    const JobRecord& record = *state.FindJob(job);
    const CurrentAttempt& current = record.current();
    if (!IsMember(current, report.worker(), report.incarnation())) continue;
    const bool is_listed = listed.contains(current.attempt_id());
    const Lease* lease =
        leases.Find(report.worker(), job, current.lease_epoch(), current.attempt_id());
    if (!is_listed && lease != nullptr && lease->heard_at + options.lease_duration <= now) continue;
    assignments.push_back(OfCurrent(record, report.worker(), is_listed, options, now));
  }
  for (const v1::AttemptReport& attempt : report.attempts()) {
    const JobRecord* record = state.FindJob(attempt.job());
    if (record == nullptr) {
      // A worker that was away for long. One that nobody knows keeps its lease, until that ends.
      const auto archived = archive.FindArchived(attempt.job());
      if (archived.ok() && archived->has_value()) {
        assignments.push_back(OfArchived(**archived, attempt));
      }
      continue;
    }
    const bool is_current = IsCurrent(*record, attempt.lease_epoch(), attempt.attempt_id()) &&
                            IsMember(record->current(), report.worker(), report.incarnation()) &&
                            IsHolder(record->current(), report.worker());
    if (!is_current) assignments.push_back(OfEnded(*record, attempt));
  }
  return assignments;
}

bool IsRenewal(const v1::Assignment& assignment) {
  return assignment.desired() == v1::Assignment::RUN ||
         assignment.desired() == v1::Assignment::YIELD;
}

std::vector<v1::Assignment> LastCommittedState(const LeaseTable& leases,
                                               const v1::SyncRequest& report) {
  std::vector<v1::Assignment> assignments;
  for (const v1::AttemptReport& attempt : report.attempts()) {
    const Lease* lease =
        leases.Find(report.worker(), attempt.job(), attempt.lease_epoch(), attempt.attempt_id());
    if (lease == nullptr) continue;
    v1::Assignment assignment = Name(attempt.job(), attempt.lease_epoch(), attempt.attempt_id());
    assignment.set_desired(lease->desired);
    assignment.set_message("the scheduler loads its state; go on as you were told");
    assignments.push_back(assignment);
  }
  return assignments;
}

}  // namespace deltaworks::scheduler

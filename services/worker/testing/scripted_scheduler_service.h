// ScriptedScheduler: a WorkerService for one job, behind which a test decides: it grants, tells an
// attempt to yield or stop once a phase is reached, and keeps what was reported. What a real
// scheduler would store, it remembers: committed checkpoint, acknowledged numbers, the result.
//
// Thread-safe; gRPC calls it from many threads.

#ifndef DELTAWORKS_SERVICES_WORKER_TESTING_SCRIPTED_SCHEDULER_SERVICE_H_
#define DELTAWORKS_SERVICES_WORKER_TESTING_SCRIPTED_SCHEDULER_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.grpc.pb.h"
#include "services/base/clock.h"
#include "services/worker/seams.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class ScriptedScheduler final : public v1::WorkerService::Service {
 public:
  // What is known of one attempt.
  struct Attempt {
    AttemptKey key;
    v1::TrainTask task;
    v1::Assignment::Desired desired = v1::Assignment::RUN;
    // Told once `order_at` is reported; UNSPECIFIED: nothing.
    v1::Assignment::Desired order = v1::Assignment::DESIRED_UNSPECIFIED;
    v1::AttemptReport::Phase order_at = v1::AttemptReport::PHASE_UNSPECIFIED;

    std::vector<v1::AttemptReport::Phase> phases;  // Each change.
    std::map<int64_t, v1::MetricPoint> metrics;    // By number.
    int64_t logs_acknowledged = 0;
    std::optional<v1::CheckpointReport> checkpoint;
    std::optional<v1::ResultReport> result;
    std::optional<v1::Failure> failure;
    bool over = false;  // Left, failed or done.
  };

  void Grant(Attempt attempt) {
    MutexLock lock(&mutex_);
    attempts_.push_back(std::move(attempt));
    Changed();
  }

  // Of an attempt whose worker is lost.
  void EndLatest() {
    MutexLock lock(&mutex_);
    attempts_.back().over = true;
    Changed();
  }

  // The next reports are refused with this error.
  void Refuse(grpc::Status error) {
    MutexLock lock(&mutex_);
    refusal_ = std::move(error);
    Changed();
  }

  // Waits until `condition` holds; false after a minute, which no test should need.
  bool WaitUntil(const std::function<bool(const Attempt&)>& condition) {
    const absl::Duration end = RealClock().Monotonic() + absl::Minutes(1);
    MutexLock lock(&mutex_);
    while (attempts_.empty() || !condition(attempts_.back())) {
      if (RealClock().Monotonic() >= end) return false;
      changed_.WaitWithTimeout(&mutex_, absl::Seconds(1));
    }
    return true;
  }
  bool WaitUntilOver() {
    return WaitUntil([](const Attempt& attempt) { return attempt.over; });
  }
  bool WaitUntilHeard() {
    const absl::Duration end = RealClock().Monotonic() + absl::Minutes(1);
    MutexLock lock(&mutex_);
    while (last_report_.report_number() == 0) {
      if (RealClock().Monotonic() >= end) return false;
      changed_.WaitWithTimeout(&mutex_, absl::Seconds(1));
    }
    return true;
  }

  // Of the latest grant.
  Attempt latest() const {
    MutexLock lock(&mutex_);
    return attempts_.back();
  }
  v1::SyncRequest last_report() const {
    MutexLock lock(&mutex_);
    return last_report_;
  }

  grpc::Status Sync(grpc::ServerContext* context, const v1::SyncRequest* request,
                    v1::SyncResponse* response) override {
    MutexLock lock(&mutex_);
    const int64_t revision_before = revision_;
    const bool content = TakeIn(*request);
    if (!refusal_.ok()) return refusal_;
    const bool news = request->seen_term() != kTerm || request->seen_revision() < revision_before ||
                      revision_ > revision_before;
    const absl::Duration end = RealClock().Monotonic() + kHeldOpen;
    while (!news && !content && revision_ == revision_before && !context->IsCancelled() &&
           RealClock().Monotonic() < end) {
      changed_.WaitWithTimeout(&mutex_, absl::Milliseconds(20));
    }
    if (!refusal_.ok()) return refusal_;
    Answer(*request, response);
    return grpc::Status::OK;
  }

 private:
  static constexpr absl::Duration kHeldOpen = absl::Seconds(5);
  static constexpr int64_t kTerm = 1;

  void Changed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ++revision_;
    changed_.SignalAll();
  }

  // True if something in it wants an answer.
  bool TakeIn(const v1::SyncRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    last_report_ = request;
    changed_.SignalAll();
    bool content = false;
    for (const v1::AttemptReport& report : request.attempts()) {
      for (Attempt& attempt : attempts_) {
        if (attempt.key.attempt_id == report.attempt_id() && !attempt.over) {
          content |= TakeIn(report, request.draining(), attempt);
        }
      }
    }
    return content;
  }

  bool TakeIn(const v1::AttemptReport& report, bool draining, Attempt& attempt)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (attempt.phases.empty() || attempt.phases.back() != report.phase()) {
      attempt.phases.push_back(report.phase());
    }
    for (int i = 0; i < report.metrics_size(); ++i) {
      attempt.metrics[report.first_metric_n() + i] = report.metrics(i);
    }
    attempt.logs_acknowledged =
        std::max(attempt.logs_acknowledged, report.first_log_n() + report.logs_size() - 1);
    if (report.has_checkpoint()) attempt.checkpoint = report.checkpoint();
    if (draining) attempt.desired = v1::Assignment::YIELD;
    if (report.phase() == attempt.order_at && attempt.desired != attempt.order) {
      attempt.desired = attempt.order;
      Changed();
    }
    if (report.has_result()) attempt.result = report.result();
    if (report.has_failure()) attempt.failure = report.failure();
    attempt.over = report.phase() == v1::AttemptReport::LEFT || attempt.failure.has_value() ||
                   attempt.result.has_value();
    if (attempt.over) Changed();
    return report.metrics_size() > 0 || report.logs_size() > 0 || report.has_checkpoint();
  }

  void Answer(const v1::SyncRequest& request, v1::SyncResponse* response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    response->set_term(kTerm);
    response->set_revision(revision_);
    response->mutable_lease_duration()->set_seconds(20);
    for (const Attempt& attempt : attempts_) {
      const bool listed = std::any_of(
          request.attempts().begin(), request.attempts().end(),
          [&](const auto& report) { return report.attempt_id() == attempt.key.attempt_id; });
      if (attempt.over && !listed) continue;
      v1::Assignment& assignment = *response->add_assignments();
      assignment.set_job(attempt.key.job);
      assignment.set_lease_epoch(attempt.key.lease_epoch);
      assignment.set_attempt_id(attempt.key.attempt_id);
      assignment.set_desired(attempt.over ? v1::Assignment::STOP : attempt.desired);
      assignment.set_result_accepted(attempt.result.has_value());
      assignment.set_job_final(attempt.result.has_value() || attempt.failure.has_value());
      assignment.set_committed_step(attempt.checkpoint.has_value() ? attempt.checkpoint->step()
                                                                   : 0);
      assignment.set_logs_acknowledged_n(attempt.logs_acknowledged);
      if (!attempt.metrics.empty()) {
        assignment.set_metrics_acknowledged_n(attempt.metrics.rbegin()->first);
      }
      if (!listed) *assignment.mutable_train() = attempt.task;
    }
  }

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<Attempt> attempts_ ABSL_GUARDED_BY(mutex_);
  v1::SyncRequest last_report_ ABSL_GUARDED_BY(mutex_);
  grpc::Status refusal_ ABSL_GUARDED_BY(mutex_);
  int64_t revision_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_TESTING_SCRIPTED_SCHEDULER_SERVICE_H_

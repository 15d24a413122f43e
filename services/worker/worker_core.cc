// Attempts: starting, leases, leaving, ending; and what the trainer tells.

#include "services/worker/worker_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "scheduler/proto_time.h"
#include "services/base/log.h"
#include "trainer/base/utf8_prefix.h"

namespace deltaworks::services {
namespace {

constexpr size_t kLogLineBytesMax = 4'000;
constexpr size_t kFailureBytesMax = 2'000;

AttemptKey KeyOf(const v1::Assignment& assignment) {
  return {assignment.job(), assignment.lease_epoch(), assignment.attempt_id()};
}

}  // namespace

WorkerCore::WorkerCore(Options options, const Clock& clock, EventLoop& loop,
                       ReportChannel& scheduler, Trainer& trainer, Publisher& publisher,
                       WorkerMetrics& metrics, std::function<void(absl::Status)> on_fatal)
    : options_(std::move(options)),
      clock_(clock),
      loop_(loop),
      scheduler_(scheduler),
      trainer_(trainer),
      publisher_(publisher),
      metrics_(metrics),
      on_fatal_(std::move(on_fatal)) {}

void WorkerCore::Start() { Send(); }

void WorkerCore::Stop() {
  stopped_ = true;
  scheduler_.GiveUp();
  if (send_timer_ != 0) loop_.Cancel(send_timer_);
  for (auto& [id, attempt] : attempts_) ClearTimers(*attempt);
}

void WorkerCore::Drain(std::function<void()> done) {
  if (stopped_) {
    done();
    return;
  }
  draining_ = true;
  drained_ = std::move(done);
  for (auto& [id, attempt] : attempts_) BeginLeaving(*attempt);
  UrgentNews();
}

void WorkerCore::SetBasesCached(const std::vector<std::string>& manifest_digests) {
  options_.environment.clear_bases_cached();
  for (const std::string& digest : manifest_digests) {
    options_.environment.add_bases_cached(digest);
  }
}

// ---- Hearing ----

void WorkerCore::Apply(const v1::SyncResponse& response, const SyncUnderWay& sync) {
  if (response.has_lease_duration()) {
    lease_duration_ = scheduler::FromProto(response.lease_duration());
  }
  const absl::Duration lease_end = sync.sent_at + lease_duration_;
  absl::flat_hash_set<std::string> named;
  for (const v1::Assignment& assignment : response.assignments()) {
    named.insert(assignment.attempt_id());
    if (HeldAttempt* attempt = Find(KeyOf(assignment))) {
      ApplyToHeld(assignment, sync.report_number, lease_end, *attempt);
    } else if (assignment.desired() == v1::Assignment::RUN) {
      StartAttempt(assignment, lease_end);
    }
  }
  ForgetUnnamed(named);
  metrics_.attempts.Set(static_cast<double>(attempts_.size()));
}

void WorkerCore::ApplyToHeld(const v1::Assignment& assignment, int64_t report_number,
                             absl::Duration lease_end, HeldAttempt& attempt) {
  attempt.metrics.Acknowledge(assignment.metrics_acknowledged_n());
  attempt.logs.Acknowledge(assignment.logs_acknowledged_n());
  attempt.committed_step = std::max(attempt.committed_step, assignment.committed_step());
  switch (assignment.desired()) {
    case v1::Assignment::RUN:
      Renew(attempt, lease_end);
      break;
    case v1::Assignment::YIELD:
      Renew(attempt, lease_end);
      BeginLeaving(attempt);
      break;
    case v1::Assignment::STOP:
      ApplyStop(assignment, report_number, attempt);  // May end it: nothing may follow.
      return;
    default:
      return;
  }
  Advance(attempt);
}

void WorkerCore::ApplyStop(const v1::Assignment& assignment, int64_t report_number,
                           HeldAttempt& attempt) {
  const bool has_result = attempt.result.has_value();
  // A STOP that answers an earlier report was said without having heard of the end.
  const bool heard_of_end =
      attempt.last_word_report != 0 && report_number >= attempt.last_word_report;
  if (heard_of_end || (has_result && assignment.job_final())) {
    Forget(attempt.key.attempt_id);
    return;
  }
  if (!has_result || !assignment.result_accepted()) {
    StopAttempt(attempt);
    return;
  }
  if (attempt.stage != ResultStage::kVerified) return;  // Uploads what was missing.
  attempt.result_accepted = assignment.missing_blobs().empty();
  attempt.result_reported = true;
  if (!attempt.result_accepted) {
    LogWarning("uploads bytes of a result again", {{"job", attempt.key.job}});
    attempt.stage = ResultStage::kUpload;
    Advance(attempt);
  }
}

void WorkerCore::StartAttempt(const v1::Assignment& assignment, absl::Duration lease_end) {
  const AttemptKey key = KeyOf(assignment);
  const bool knows_id = attempts_.contains(key.attempt_id) || ended_.contains(key.attempt_id);
  if (!assignment.has_train() || knows_id || clock_.Monotonic() >= lease_end) return;
  if (static_cast<int64_t>(attempts_.size()) >= options_.attempts_max) {
    LogWarning(
        "a grant is not taken: as many attempts are held as may be",
        {{"job", key.job}, {"attempt", key.attempt_id}, {"attempts", options_.attempts_max}});
    return;
  }
  LogInfo("attempt granted", {{"job", key.job}, {"attempt", key.attempt_id}});
  auto& slot = attempts_[key.attempt_id];
  slot = std::make_unique<HeldAttempt>(key, options_.points_kept_max, options_.lines_kept_max);
  HeldAttempt& attempt = *slot;
  attempt.checkpoint_interval = scheduler::FromProto(assignment.train().checkpoint_interval());
  attempt.checkpoint_wait = attempt.checkpoint_interval;
  attempt.committed_step = assignment.committed_step();
  attempt.step = assignment.train().start_checkpoint().step();
  attempt.rank = assignment.train().gang().rank();
  if (assignment.train().has_gang()) {
    attempt.gang_steps = assignment.train().facts().total_steps();
  }
  Renew(attempt, lease_end);
  if (draining_) {
    attempt.trainer = TrainerState::kGone;
    attempt.leaving = attempt.left = true;
  } else {
    trainer_.Start(key, assignment.train());
  }
  UrgentNews();
}

void WorkerCore::ForgetUnnamed(const absl::flat_hash_set<std::string>& named) {
  std::vector<std::string> over;
  for (const auto& [id, attempt] : attempts_) {
    if (named.contains(id) || LeaseHolds(*attempt)) {
      attempt->unnamed_since.reset();
      continue;
    }
    if (attempt->left || attempt->failure.has_value()) {
      over.push_back(id);
      continue;
    }
    const absl::Duration now = clock_.Monotonic();
    if (!attempt->unnamed_since.has_value()) attempt->unnamed_since = now;
    if (now - *attempt->unnamed_since < options_.unnamed_max) continue;
    LogWarning("the scheduler does not know this attempt; it is dropped",
               {{"job", attempt->key.job}, {"attempt", id}});
    StopAttempt(*attempt);
  }
  for (const std::string& id : over) Forget(id);
}

void WorkerCore::Forget(const std::string& attempt_id) {
  HeldAttempt& attempt = *attempts_.at(attempt_id);
  ClearTimers(attempt);
  DropRun(attempt);
  LogInfo("attempt forgotten", {{"job", attempt.key.job}, {"attempt", attempt_id}});
  ended_.insert(attempt_id);
  ended_order_.push_back(attempt_id);
  if (ended_order_.size() > options_.ended_kept_max) {
    ended_.erase(ended_order_.front());
    ended_order_.pop_front();
  }
  attempts_.erase(attempt_id);
  // Tells the scheduler that the place is free, and that nothing is held any more.
  UrgentNews();
}

void WorkerCore::MaybeDrained() {
  if (!draining_ || !drain_heard_ || !attempts_.empty() || drained_ == nullptr) return;
  std::exchange(drained_, nullptr)();
}

// ---- An attempt ----

HeldAttempt* WorkerCore::Find(const AttemptKey& key) {
  const auto found = attempts_.find(key.attempt_id);
  return found == attempts_.end() || !(found->second->key == key) ? nullptr : found->second.get();
}

bool WorkerCore::LeaseHolds(const HeldAttempt& attempt) const {
  return clock_.Monotonic() < attempt.lease_end;
}

void WorkerCore::Renew(HeldAttempt& attempt, absl::Duration lease_end) {
  attempt.lease_end = std::max(attempt.lease_end, lease_end);
  if (!LeaseHolds(attempt)) return;
  if (attempt.lease_timer != 0) loop_.Cancel(attempt.lease_timer);
  attempt.lease_timer = loop_.PostAfter(attempt.lease_end - clock_.Monotonic(),
                                        [this, key = attempt.key] { OnLeaseTimer(key); });
  if (!std::exchange(attempt.lease_lapsed, false)) return;
  if (attempt.trainer == TrainerState::kWorking && !attempt.stopping && !attempt.leaving) {
    trainer_.Resume(attempt.key);
    if (attempt.training) ArmCheckpointTimer(attempt);
  }
  UrgentNews();
}

void WorkerCore::OnLeaseTimer(const AttemptKey& key) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr || LeaseHolds(*attempt)) return;
  attempt->lease_timer = 0;
  attempt->lease_lapsed = true;
  if (attempt->result_accepted) return;
  metrics_.leases_lapsed.Increment();
  LogWarning("lease ended without a renewal", {{"job", key.job}, {"attempt", key.attempt_id}});
  PauseCheckpointTimer(*attempt);
  if (attempt->trainer == TrainerState::kWorking && !attempt->stopping && !attempt->leaving) {
    trainer_.Park(key);
  }
  UrgentNews();
}

void WorkerCore::BeginLeaving(HeldAttempt& attempt) {
  if (attempt.leaving || attempt.stopping) return;
  if (attempt.gang_timer != 0) {
    loop_.Cancel(std::exchange(attempt.gang_timer, 0));
    attempt.leaving = true;
    Advance(attempt);
    return;
  }
  if (attempt.trainer != TrainerState::kWorking) return;
  attempt.leaving = true;
  PauseCheckpointTimer(attempt);
  trainer_.Leave(attempt.key);
}

void WorkerCore::StopAttempt(HeldAttempt& attempt) {
  if (attempt.stopping) return;
  attempt.stopping = true;
  attempt.to_publish.reset();
  ClearTimers(attempt);
  if (attempt.trainer == TrainerState::kWorking) {
    trainer_.Stop(attempt.key);
    return;
  }
  DropRun(attempt);
  attempt.left = true;
  UrgentNews();
}

void WorkerCore::Fail(HeldAttempt& attempt, v1::Failure failure) {
  failure.mutable_message()->resize(Utf8Prefix(failure.message(), kFailureBytesMax).size());
  LogWarning("attempt failed",
             {{"job", attempt.key.job}, {"code", failure.code()}, {"error", failure.message()}});
  metrics_.runs_failed.Increment();
  DropRun(attempt);
  attempt.trainer = TrainerState::kGone;
  attempt.to_publish.reset();
  ClearTimers(attempt);
  if (attempt.stopping) {
    attempt.left = true;
  } else {
    attempt.stopping = true;
    attempt.failure = std::move(failure);
  }
  UrgentNews();
}

void WorkerCore::DropRun(HeldAttempt& attempt) {
  if (attempt.trainer != TrainerState::kFinished) return;
  trainer_.Forget(attempt.key);
  attempt.trainer = TrainerState::kGone;
}

void WorkerCore::AddLog(HeldAttempt& attempt, v1::JobEvent::Level level, std::string message) {
  message.resize(Utf8Prefix(message, kLogLineBytesMax).size());
  v1::WorkerLog line;
  *line.mutable_time() = scheduler::ToProto(clock_.Now());
  line.set_level(level);
  line.set_message(std::move(message));
  const int64_t dropped = attempt.logs.dropped();
  attempt.logs.Add(std::move(line));
  metrics_.report_points_dropped.Increment(static_cast<double>(attempt.logs.dropped() - dropped));
}

void WorkerCore::ArmCheckpointTimer(HeldAttempt& attempt) {
  if (attempt.checkpoint_interval <= absl::ZeroDuration()) return;
  PauseCheckpointTimer(attempt);
  attempt.checkpoint_armed_at = clock_.Monotonic();
  attempt.checkpoint_timer = loop_.PostAfter(attempt.checkpoint_wait, [this, key = attempt.key] {
    HeldAttempt* due = Find(key);
    if (due == nullptr) return;
    due->checkpoint_timer = 0;
    due->checkpoint_wait = due->checkpoint_interval;
    trainer_.TakeCheckpoint(key);
    ArmCheckpointTimer(*due);
  });
}

void WorkerCore::PauseCheckpointTimer(HeldAttempt& attempt) {
  if (attempt.checkpoint_timer == 0) return;
  loop_.Cancel(std::exchange(attempt.checkpoint_timer, 0));
  const absl::Duration trained = clock_.Monotonic() - attempt.checkpoint_armed_at;
  attempt.checkpoint_wait = std::max(absl::ZeroDuration(), attempt.checkpoint_wait - trained);
}

void WorkerCore::ClearTimers(HeldAttempt& attempt) {
  for (EventLoop::TimerId* timer : {&attempt.lease_timer, &attempt.checkpoint_timer,
                                    &attempt.retry_timer, &attempt.gang_timer}) {
    if (*timer != 0) loop_.Cancel(std::exchange(*timer, 0));
  }
}

// ---- What the trainer tells ----

void WorkerCore::OnTraining(const AttemptKey& key, int64_t step) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr || attempt->stopping) return;
  attempt->training = true;
  attempt->step = step;
  if (!attempt->leaving && LeaseHolds(*attempt)) ArmCheckpointTimer(*attempt);
  UrgentNews();
}

// No news: it goes with the next report.
void WorkerCore::OnPass(const PassReport& pass) {
  for (const PassReport::DeviceTime& job : pass.device_times) {
    HeldAttempt* attempt = Find(job.key);
    if (attempt != nullptr) attempt->device_time = std::max(attempt->device_time, job.so_far);
  }
  if (pass.measure.has_value()) pass_timer_.Add(*pass.measure);
}

void WorkerCore::OnProgress(const AttemptKey& key, v1::MetricPoint point) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr || attempt->stopping) return;
  attempt->step = point.step();
  attempt->tokens_per_second = point.tokens_per_second();
  if (attempt->rank != 0) return;
  const int64_t dropped = attempt->metrics.dropped();
  attempt->metrics.Add(std::move(point));
  metrics_.report_points_dropped.Increment(
      static_cast<double>(attempt->metrics.dropped() - dropped));
  News();
}

void WorkerCore::OnLog(const AttemptKey& key, v1::JobEvent::Level level, std::string message) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr || attempt->stopping) return;
  AddLog(*attempt, level, std::move(message));
  News();
}

void WorkerCore::OnCheckpoint(const AttemptKey& key, std::shared_ptr<const Artifact> artifact) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr || attempt->stopping) return;
  attempt->to_publish = std::move(artifact);
  Advance(*attempt);
}

void WorkerCore::OnLeft(const AttemptKey& key, std::shared_ptr<const Artifact> checkpoint) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr) return;
  attempt->trainer = TrainerState::kGone;
  if (attempt->stopping) {
    attempt->left = true;
    UrgentNews();
    return;
  }
  if (checkpoint != nullptr) attempt->to_publish = std::move(checkpoint);
  if (attempt->step < attempt->gang_steps && !attempt->leaving) {
    AwaitOrder(*attempt, [this](HeldAttempt& waiting) { Advance(waiting); });
  }
  Advance(*attempt);
}

void WorkerCore::OnFailed(const AttemptKey& key, v1::Failure failure) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr) return;
  if (failure.code() == kGangBroke && !attempt->stopping) {
    GangBroke(*attempt, std::move(failure));
  } else {
    Fail(*attempt, std::move(failure));
  }
}

void WorkerCore::GangBroke(HeldAttempt& attempt, v1::Failure failure) {
  LogWarning("the gang broke", {{"job", attempt.key.job}, {"error", failure.message()}});
  attempt.trainer = TrainerState::kGone;
  PauseCheckpointTimer(attempt);
  if (attempt.leaving) {
    Advance(attempt);  // Another one left first, as it was told to.
    return;
  }
  AwaitOrder(attempt, [this, failure = std::move(failure)](HeldAttempt& waiting) {
    Fail(waiting, failure);
  });
}

void WorkerCore::AwaitOrder(HeldAttempt& attempt, std::function<void(HeldAttempt&)> then) {
  attempt.gang_timer =
      loop_.PostAfter(options_.gang_patience, [this, key = attempt.key, then = std::move(then)] {
        HeldAttempt* waiting = Find(key);
        if (waiting == nullptr) return;
        waiting->gang_timer = 0;
        then(*waiting);
      });
}

void WorkerCore::OnFinished(const AttemptKey& key, TrainedResult result) {
  HeldAttempt* attempt = Find(key);
  if (attempt == nullptr) {
    trainer_.Forget(key);
    return;
  }
  attempt->trainer = TrainerState::kFinished;
  PauseCheckpointTimer(*attempt);
  metrics_.runs_finished.Increment();
  if (attempt->stopping) {
    DropRun(*attempt);
    attempt->left = true;
    UrgentNews();
    return;
  }
  attempt->step = result.step;
  if (result.checkpoint != nullptr) attempt->to_publish = result.checkpoint;
  result.checkpoint.reset();
  attempt->result = std::move(result);
  Advance(*attempt);
}

}  // namespace deltaworks::services

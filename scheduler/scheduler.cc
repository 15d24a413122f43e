#include "scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include "glog/logging.h"
#include "scheduler/desired_state.h"
#include "scheduler/job_record.h"
#include "scheduler/proto_time.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::scheduler {
namespace {

v1::Assignment::Desired DesiredOf(const CurrentAttempt& current) {
  return current.ordered() == v1::Assignment::DESIRED_UNSPECIFIED ? v1::Assignment::RUN
                                                                  : current.ordered();
}

std::vector<Lease> CurrentAttempts(const State& state) {
  std::vector<Lease> attempts;
  for (const auto& [worker, jobs] : state.jobs_by_worker()) {
    for (const std::string& job : jobs) {
      const CurrentAttempt& current = state.FindJob(job)->current();
      attempts.push_back({.job = job,
                          .lease_epoch = current.lease_epoch(),
                          .attempt_id = current.attempt_id(),
                          .worker = worker,
                          .desired = DesiredOf(current)});
    }
  }
  return attempts;
}

// What a committed event does to the deadlines.
void FollowEvent(const Event& event, absl::Time now, LeaseTable* leases) {
  const std::string& job = event.job();
  switch (event.kind_case()) {
    case Event::kAttemptGranted: {
      const v1::Attempt& attempt = event.attempt_granted().attempt();
      const auto grant = [&](const std::string& worker) {
        leases->Grant({.job = job,
                       .lease_epoch = attempt.lease_epoch(),
                       .attempt_id = attempt.attempt_id(),
                       .worker = worker},
                      now);
      };
      if (attempt.gang().empty()) return grant(attempt.worker());
      for (const std::string& worker : attempt.gang()) grant(worker);
      return;
    }
    case Event::kMemberLeft:
      leases->EndOn(job, event.member_left().worker());
      if (event.member_left().has_broken()) leases->SetDesired(job, v1::Assignment::STOP);
      return;
    case Event::kAttemptOrdered:
      leases->SetDesired(job, event.attempt_ordered().desired());
      return;
    case Event::kAttemptEnded:
    case Event::kResultAccepted:
      leases->End(job);
      return;
    default:
      return;
  }
}

}  // namespace

Scheduler::Scheduler(const Options& options, JobArchive* archive, absl::Time started_at)
    : options_(options),
      leases_(options.lease_duration),
      fleet_(options.lease_duration, started_at),
      archive_(archive) {}

void Scheduler::Load(std::unique_ptr<State> state, absl::Time now) {
  CHECK(state != nullptr);
  const bool is_start = term_ == 0;
  workers_.reset();
  state_ = std::move(state);
  workers_ = std::make_unique<WorkerIndex>(*state_, fleet_, options_);
  untaken_.clear();
  uncommitted_.clear();
  archive_.Clear();
  committed_ = state_->event_count();
  leases_.Reconcile(
      CurrentAttempts(*state_), now,
      now + options_.lease_duration + (is_start ? options_.start_grace : absl::ZeroDuration()));
  // Also when the commit of this process's own start was lost.
  if (is_start || state_->term() < term_) {
    const auto no_random = []() -> uint64_t { return 0; };
    const absl::StatusOr<Result> result = Execute(StartScheduler{}, now, no_random);
    CHECK(result.ok()) << result.status();
    term_ = state_->term();
  }
}

void Scheduler::Unload() {
  workers_.reset();
  state_.reset();
  untaken_.clear();
  uncommitted_.clear();
}

absl::StatusOr<Scheduler::Result> Scheduler::Execute(const Command& command, absl::Time now,
                                                     RandomBits random) {
  if (!loaded()) return absl::UnavailableError("the scheduler loads its state, want a later call");
  fleet_.Advance(now);
  speeds_.Update(fleet_, now);
  const Estimator estimator = this->estimator();
  DW_ASSIGN_OR_RETURN(Decision decision, Decide(command, {.state = *state_,
                                                          .archive = archive_,
                                                          .fleet = fleet_,
                                                          .estimator = estimator,
                                                          .options = options_,
                                                          .now = now,
                                                          .random = random}));
  return Fold(std::move(decision));
}

Scheduler::Result Scheduler::Fold(Decision decision) {
  for (Event& event : decision.events) {
    const absl::Status folded = state_->Fold(event);
    CHECK(folded.ok()) << folded;
    archive_.Fold(event);
    uncommitted_.push_back(event);
    untaken_.push_back(std::move(event));
  }
  return {.position = state_->event_count(), .job = std::move(decision.job)};
}

Scheduler::Due Scheduler::Tick(absl::Time now, RandomBits random) {
  if (!loaded()) return {};
  fleet_.Advance(now);
  const bool preempts = now >= next_preemption_;
  RenewStartBounds(now, random);
  ArchiveEnded(now, random);
  for (int plans = 1;; ++plans) {
    UpdateWorkers();
    Plan plan = MakePlan(*state_, fleet_, *workers_, leases_, options_, now, preempts);
    if (plan.looked_for_victims) next_preemption_ = now + options_.preemption_interval;
    const int64_t before = state_->event_count();
    for (const Command& command : plan.commands) {
      const absl::StatusOr<Result> result = Execute(command, now, random);
      CHECK(result.ok()) << result.status();
    }
    const bool more = state_->event_count() != before;
    if (!more || plans == kPlansMax) {
      return {.position = state_->event_count(), .more = more};
    }
  }
}

void Scheduler::RenewStartBounds(absl::Time now, RandomBits random) {
  // Before, not all workers had the time to report.
  if (now < fleet_.started_at() + options_.lease_duration + options_.start_grace ||
      now < next_start_bounds_) {
    return;
  }
  next_start_bounds_ = now + options_.start_bounds_interval;
  UpdateWorkers();
  for (std::string& job : start_bounds_.Next(*state_, estimator(), now)) {
    const absl::StatusOr<Result> result = Execute(RenewStartBound{std::move(job)}, now, random);
    CHECK(result.ok()) << result.status();
  }
}

void Scheduler::ArchiveEnded(absl::Time now, RandomBits random) {
  for (int archived = 0; archived < kArchivesMax && !state_->ended().empty(); ++archived) {
    const auto& [ended, job] = *state_->ended().begin();
    if (ended + options_.archive_after > now) return;
    const absl::StatusOr<Result> result = Execute(ArchiveJob{job}, now, random);
    CHECK(result.ok()) << result.status();
  }
}

void Scheduler::UpdateWorkers() {
  State::Names changed = state_->TakeChangedWorkers();
  changed.merge(fleet_.TakeChanged());
  for (const std::string& worker : changed) workers_->Update(worker);
}

absl::StatusOr<Scheduler::Result> Scheduler::ReceiveSync(const v1::SyncRequest& report,
                                                         absl::Time received_at,
                                                         RandomBits random) {
  const int64_t incarnation_min = loaded() ? state_->WorkerIncarnation(report.worker()) : 0;
  DW_RETURN_IF_ERROR(fleet_.Accept(report, incarnation_min, received_at));
  for (const v1::AttemptReport& attempt : report.attempts()) {
    leases_.Hear(report.worker(), attempt.job(), attempt.lease_epoch(), attempt.attempt_id(),
                 received_at);
  }
  Result result;
  if (loaded()) {
    DW_ASSIGN_OR_RETURN(result, Execute(WorkerReport{report}, received_at, random));
  }
  // The answer may be held: what it is going to renew must not end meanwhile.
  SyncAnswered(report, AnswerSync(report, received_at).response, received_at);
  return result;
}

Scheduler::Sync Scheduler::AnswerSync(const v1::SyncRequest& report, absl::Time now) {
  Sync sync;
  const std::vector<v1::Assignment> assignments =
      loaded() ? DesiredState(*state_, archive_, leases_, report, options_, now)
               : LastCommittedState(leases_, report);
  for (const v1::Assignment& assignment : assignments) {
    *sync.response.add_assignments() = assignment;
  }
  *sync.response.mutable_lease_duration() = ToProto(options_.lease_duration);
  sync.response.set_term(term_);
  sync.response.set_revision(fleet_.Revise(report.worker(), DeterministicBytes(sync.response)));
  sync.position = loaded() ? state_->event_count() : committed_;
  return sync;
}

void Scheduler::SyncAnswered(const v1::SyncRequest& report, const v1::SyncResponse& response,
                             absl::Time received_at) {
  for (const v1::Assignment& assignment : response.assignments()) {
    if (!IsRenewal(assignment)) continue;
    leases_.Renew(report.worker(), assignment.job(), assignment.lease_epoch(),
                  assignment.attempt_id(), received_at);
  }
}

std::vector<Event> Scheduler::TakeEvents() { return std::exchange(untaken_, {}); }

void Scheduler::Committed(int64_t position, absl::Time now) {
  while (committed_ < position) {
    CHECK(!uncommitted_.empty()) << "committed position " << position << ", folded " << committed_;
    FollowEvent(uncommitted_.front(), now, &leases_);
    uncommitted_.pop_front();
    ++committed_;
  }
  if (uncommitted_.empty()) archive_.Clear();
}

}  // namespace deltaworks::scheduler

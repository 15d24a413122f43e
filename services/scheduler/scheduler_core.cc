#include "services/scheduler/scheduler_core.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"
#include "scheduler/decide_request.h"
#include "scheduler/job_spec.h"
#include "scheduler/preview.h"
#include "scheduler/resource_name.h"
#include "services/base/log.h"
#include "services/base/random_id.h"
#include "services/scheduler/job_lists.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::services {
namespace {

using ::deltaworks::scheduler::Event;
using ::deltaworks::scheduler::Scheduler;
using ::deltaworks::scheduler::State;

// After a snapshot for which the disk had no room.
constexpr absl::Duration kSnapshotRetry = absl::Seconds(30);
// Jobs that are dropped in a second because of their age: each has up to 50,000 rows.
constexpr int64_t kDropsMax = 16;

uint64_t SystemRandom() {
  uint64_t bits = 0;
  const std::string bytes = RandomBytes(sizeof(bits));
  std::memcpy(&bits, bytes.data(), sizeof(bits));
  return bits;
}

absl::Status Stopping() {
  return absl::UnavailableError("the scheduler is stopping, want a call to its successor");
}

// What callers are told whose change was not stored, or perhaps not.
absl::Status RefusalOf(const absl::Status& status, bool is_known) {
  if (is_known && absl::IsResourceExhausted(status)) {
    return absl::ResourceExhaustedError(
        absl::StrCat(status.message(), "; nothing was stored, want room on the disk"));
  }
  return absl::UnavailableError(absl::StrCat(
      status.message(), is_known ? "; nothing was stored" : "; it is unknown what was stored",
      ", want the same call again"));
}

}  // namespace

SchedulerCore::SchedulerCore(const Options& options, const Clock& clock, EventLoop& loop,
                             CallPool& pool, EventStore& events, StoreClient& store,
                             RegistryClient& registry, SchedulerMetrics& metrics)
    : options_(options),
      clock_(clock),
      loop_(loop),
      events_(events),
      metrics_(metrics),
      random_(options.random ? options.random : SystemRandom),
      syncs_(
          loop, options.policy.lease_duration / 4, [this] { RequestTurn(); }, metrics),
      watches_(options.watches, RandomHexId(), metrics),
      estimate_errors_(metrics),
      asks_(
          options.asks, loop, pool, store, registry,
          [this](const scheduler::Command& answer) { TakeAnswer(answer); }, metrics),
      pins_(
          options.pins, loop, pool, events, store, [this] { RequestTurn(); }, metrics) {}

// ---- Loading ----

absl::Time SchedulerCore::Now() const {
  return time_base_ + (clock_.Monotonic() - monotonic_base_);
}

absl::StatusOr<std::unique_ptr<State>> SchedulerCore::LoadState() {
  DW_ASSIGN_OR_RETURN(const EventStore::Stored stored, events_.Load());
  DW_ASSIGN_OR_RETURN(std::unique_ptr<State> state,
                      State::FromSnapshot(stored.snapshot, options_.policy));
  for (const Event& event : stored.events) DW_RETURN_IF_ERROR(state->Fold(event));
  if (state->event_count() < committed_) {
    return absl::DataLossError(absl::StrCat("the database has ", state->event_count(),
                                            " events, want at least the ", committed_,
                                            " that were committed"));
  }
  if (scheduler_ != nullptr) {
    // A commit whose outcome was unknown was stored after all.
    int64_t position = stored.snapshot.event_count();
    for (const Event& event : stored.events) {
      if (++position > committed_) Committed(event, position, *state);
    }
  }
  committed_ = state->event_count();
  return state;
}

absl::Status SchedulerCore::Start() {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<State> state, LoadState());
  time_base_ = std::max(clock_.Now(), state->last_time());
  monotonic_base_ = clock_.Monotonic();
  scheduler_ = std::make_unique<Scheduler>(options_.policy, &events_, Now());
  scheduler_->Load(std::move(state), Now());
  bool is_known = false;
  const std::vector<Event> started = scheduler_->TakeEvents();
  if (absl::Status status = events_.Append(committed_ + 1, started, &is_known); !status.ok()) {
    scheduler_.reset();
    return status;
  }
  committed_ += static_cast<int64_t>(started.size());
  scheduler_->Committed(committed_, Now());
  LogInfo("loaded", {{"term", scheduler_->state()->term()},
                     {"jobs", static_cast<int64_t>(scheduler_->state()->jobs().size())},
                     {"events", committed_}});
  Tick();
  return absl::OkStatus();
}

void SchedulerCore::Stop() {
  if (stopped_) return;
  if (scheduler_ == nullptr) {
    stopped_ = true;
    return;
  }
  Turn();  // Commits and answers what was folded.
  stopped_ = true;
  loop_.Cancel(tick_timer_);
  loop_.Cancel(reload_timer_);
  syncs_.AnswerReady(*scheduler_, Now(), /*all=*/true);
  watches_.EndAll(Stopping());
  pins_.Stop();
  for (auto& [id, reply] : std::exchange(estimates_, {})) reply(Stopping());
  AnswerWaiting();
}

// ---- The turn ----

void SchedulerCore::Tick() {
  tick_timer_ = loop_.PostAfter(options_.tick_interval, [this] { Tick(); });
  look_at_leaving_ = gauges_due_ = retention_due_ = true;
  RequestTurn();
}

void SchedulerCore::DropOldJobs() {
  if (options_.job_retention == absl::ZeroDuration()) return;
  const auto old = events_.EndedBefore(Now() - options_.job_retention, kDropsMax);
  if (!old.ok()) {
    LogError("jobs that are too old cannot be listed", {{"error", old.status()}});
    return;
  }
  for (const std::string& job : *old) {
    const auto result = scheduler_->Execute(scheduler::DropJob{job}, Now(), Random());
    CHECK(result.ok()) << result.status();
  }
}

void SchedulerCore::RequestTurn() {
  if (turn_posted_ || stopped_) return;
  turn_posted_ = true;
  loop_.Post([this] { Turn(); });
}

void SchedulerCore::Turn() {
  turn_posted_ = false;
  if (stopped_) return;
  if (scheduler_->loaded()) {
    const Scheduler::Due due = scheduler_->Tick(Now(), Random());
    if (due.more) RequestTurn();
    if (std::exchange(retention_due_, false)) DropOldJobs();
    if (Commit()) {
      asks_.Start(*scheduler_->state(), Now());
      pins_.Start(*scheduler_->state(), Now());
    }
  }
  if (std::exchange(look_at_all_, false)) syncs_.LookAtAll();
  if (std::exchange(look_at_leaving_, false) && scheduler_->loaded()) {
    syncs_.LookAtLeaving(*scheduler_->state());
  }
  syncs_.AnswerReady(*scheduler_, Now());
  AnswerWaiting();
  if (const State* state = CommittedState()) watches_.Pump(View(*state));
  // Last: an error here concerns nobody who was answered.
  if (scheduler_->loaded()) MaybeWriteSnapshot();
  if (std::exchange(gauges_due_, false)) UpdateGauges();
}

bool SchedulerCore::Commit() {
  const std::vector<Event> events = scheduler_->TakeEvents();
  if (events.empty()) return true;
  const absl::Duration begin = clock_.Monotonic();
  bool is_known = true;
  const absl::Status status = events_.Append(committed_ + 1, events, &is_known);
  metrics_.commit_seconds.Observe(absl::ToDoubleSeconds(clock_.Monotonic() - begin));
  if (!status.ok()) {
    metrics_.commit_failures.Increment();
    LogError("a commit failed; the state is loaded again", {{"error", status}});
    Unload(status, is_known);
    return false;
  }
  reload_wait_ = absl::ZeroDuration();
  for (const Event& event : events) Committed(event, ++committed_, *scheduler_->state());
  scheduler_->Committed(committed_, Now());
  return true;
}

void SchedulerCore::Committed(const Event& event, int64_t position, const State& state) {
  CountCommitted(event, state, metrics_);
  if (event.job().empty()) return;
  // Only these can name the job in a report, or be given it.
  if (const scheduler::JobRecord* record = state.FindJob(event.job())) {
    for (const v1::Attempt& attempt : record->job().status().attempts()) {
      syncs_.LookAt(attempt.worker());
      for (const std::string& worker : attempt.gang()) syncs_.LookAt(worker);
    }
  }
  estimate_errors_.Committed(event, state);
  if (!event.has_job_archived()) watches_.Changed(event.job(), position);
  pins_.Committed(event, state);
  if (event.shown().level() == v1::JobEvent::ALERT) {
    LogError(event.shown().message(), {{"job", event.job()}});
  }
}

void SchedulerCore::MaybeWriteSnapshot() {
  if (events_.log_size() < options_.snapshot_events || Now() < next_snapshot_) return;
  const absl::Duration begin = clock_.Monotonic();
  const absl::Status status = events_.WriteSnapshot(*scheduler_->state());
  metrics_.snapshot_seconds.Observe(absl::ToDoubleSeconds(clock_.Monotonic() - begin));
  if (status.ok()) return;
  metrics_.snapshot_failures.Increment();
  next_snapshot_ = Now() + kSnapshotRetry;
  LogError("a snapshot was not written", {{"error", status}});
  if (!absl::IsResourceExhausted(status)) Unload(status, /*is_known=*/true);
}

// ---- After an error of the event store ----

void SchedulerCore::Unload(const absl::Status& status, bool is_known) {
  look_at_all_ = gauges_due_ = true;
  refusal_ = RefusalOf(status, is_known);
  scheduler_->Unload();
  auto state = LoadState();
  if (state.ok()) {
    readable_ = *std::move(state);
  } else {
    LogError("the state cannot be loaded", {{"error", state.status()}});
  }
  reload_wait_ = std::clamp(reload_wait_ * 2, options_.reload_first, options_.reload_max);
  ReloadAfter(reload_wait_);
}

void SchedulerCore::ReloadAfter(absl::Duration wait) {
  reload_timer_ = loop_.PostAfter(wait, [this] { Reload(); });
}

void SchedulerCore::Reload() {
  if (stopped_) return;
  if (readable_ == nullptr) {
    auto state = LoadState();
    if (!state.ok()) {
      LogError("the state cannot be loaded", {{"error", state.status()}});
      reload_wait_ = std::min(reload_wait_ * 2, options_.reload_max);
      return ReloadAfter(reload_wait_);
    }
    readable_ = *std::move(state);
  }
  scheduler_->Load(std::move(readable_), Now());
  LogInfo("the state is loaded again", {{"events", committed_}});
  look_at_all_ = gauges_due_ = true;
  RequestTurn();
}

// ---- Callers ----

const State* SchedulerCore::CommittedState() const {
  if (!scheduler_->loaded()) return readable_.get();
  const State* state = scheduler_->state();
  return state->event_count() == committed_ ? state : nullptr;
}

CommittedView SchedulerCore::View(const State& state) {
  CommittedView view = {.state = state,
                        .fleet = scheduler_->fleet(),
                        .options = options_.policy,
                        .now = Now(),
                        .store = events_,
                        .estimate_errors = estimate_errors_};
  if (&state == scheduler_->state()) {
    view.sources.emplace(
        scheduler::Explainer::Sources{scheduler_->workers(), scheduler_->speeds()});
  }
  return view;
}

void SchedulerCore::EstimateJob(const v1::EstimateJobRequest& request, EstimateReply reply) {
  if (stopped_) return reply(Stopping());
  const auto complete = [&]() -> absl::StatusOr<v1::Job> {
    DW_ASSIGN_OR_RETURN(const std::string tenant,
                        scheduler::ParseTenant("parent", request.parent()));
    DW_ASSIGN_OR_RETURN(v1::Job job,
                        scheduler::CompleteJob(request.job(), tenant,
                                               absl::StrFormat("estimate-%016x", random_())));
    DW_RETURN_IF_ERROR(scheduler::CheckDeadline("job.timing", job.timing(), Now()));
    return job;
  };
  absl::StatusOr<v1::Job> job = complete();
  if (!job.ok()) return reply(job.status());
  if (static_cast<int64_t>(estimates_.size()) >= options_.estimates_max) {
    metrics_.Refused("estimates").Increment();
    return reply(absl::ResourceExhaustedError(
        absl::StrCat(estimates_.size(), " estimates are under way, want fewer than ",
                     options_.estimates_max, ", want the same call again")));
  }
  const int64_t id = NewId();
  estimates_.emplace(id, std::move(reply));
  v1::ValidateTrainingRequest question;
  question.set_parent(request.parent());
  *question.mutable_spec() = job->train();
  question.set_gang_size(job->placement().gang_size());
  asks_.Validate(std::move(question),
                 [this, id, job = *std::move(job)](
                     absl::StatusOr<v1::ValidateTrainingResponse> answer) mutable {
                   FinishEstimate(id, std::move(job), std::move(answer));
                 });
}

void SchedulerCore::FinishEstimate(int64_t id, v1::Job job,
                                   absl::StatusOr<v1::ValidateTrainingResponse> answer) {
  const auto found = estimates_.find(id);
  if (found == estimates_.end()) return;  // Stopped meanwhile.
  EstimateReply reply = std::move(found->second);
  estimates_.erase(found);
  if (!answer.ok()) {
    // What the store says of a name or a tenant is the caller's; all else may pass.
    const bool is_callers =
        absl::IsNotFound(answer.status()) || absl::IsInvalidArgument(answer.status());
    return reply(is_callers ? answer.status()
                            : absl::UnavailableError(absl::StrCat("the store did not answer: ",
                                                                  answer.status().message())));
  }
  Read([job = std::move(job), answer = *std::move(answer),
        reply = std::move(reply)](absl::StatusOr<CommittedView> view) mutable {
    if (!view.ok()) return reply(view.status());
    reply(scheduler::PreviewJob(job, answer, view->state, view->fleet,
                                view->sources.has_value() ? &*view->sources : nullptr,
                                view->options, view->now));
  });
}

void SchedulerCore::Change(const scheduler::Command& command, JobReply reply) {
  Execute(command, [reply = std::move(reply)](absl::StatusOr<CommittedView> view,
                                              const std::string& job) mutable {
    if (!view.ok()) return reply(view.status());
    const auto record = FindJob(*view, job);
    if (!record.ok()) return reply(record.status());
    reply(view->Show(**record));
  });
}

void SchedulerCore::ChangeThenRead(const scheduler::Command& command, Reader reader) {
  Execute(command,
          [reader = std::move(reader)](absl::StatusOr<CommittedView> view,
                                       const std::string&) mutable { reader(std::move(view)); });
}

void SchedulerCore::Execute(const scheduler::Command& command, ChangeReader reader) {
  if (stopped_) return reader(Stopping(), "");
  if (!scheduler_->loaded()) return reader(refusal_, "");
  if (absl::Status status = CheckRoom(); !status.ok()) return reader(status, "");
  absl::StatusOr<Scheduler::Result> result = scheduler_->Execute(command, Now(), Random());
  if (!result.ok()) {
    if (absl::IsResourceExhausted(result.status())) metrics_.Refused("active_jobs").Increment();
    return reader(result.status(), "");
  }
  waiting_.push_back({.is_change = true,
                      .reader = [job = std::move(result->job), reader = std::move(reader)](
                                    absl::StatusOr<CommittedView> view) mutable {
                        reader(std::move(view), job);
                      }});
  RequestTurn();
}

void SchedulerCore::Read(Reader reader) {
  if (stopped_) return reader(Stopping());
  if (const State* state = CommittedState()) return reader(View(*state));
  if (!scheduler_->loaded()) return reader(refusal_);
  if (absl::Status status = CheckRoom(); !status.ok()) return reader(status);
  waiting_.push_back({.reader = std::move(reader)});
}

absl::Status SchedulerCore::CheckRoom() {
  const auto waiting = static_cast<int64_t>(waiting_.size());
  if (waiting < options_.waiting_max) return absl::OkStatus();
  metrics_.Refused("waiting").Increment();
  return absl::ResourceExhaustedError(
      absl::StrCat(waiting, " calls wait for a commit, want fewer than ", options_.waiting_max));
}

void SchedulerCore::AnswerWaiting() {
  const bool refused = !scheduler_->loaded();
  const State* state = CommittedState();
  for (Waiting& waiting : std::exchange(waiting_, {})) {
    if (refused && (waiting.is_change || state == nullptr)) {
      waiting.reader(refusal_);
    } else {
      waiting.reader(View(*state));
    }
  }
}

void SchedulerCore::ReceiveSync(int64_t id, v1::SyncRequest report, HeldSyncs::Reply reply) {
  if (stopped_) return reply(Stopping());
  if (syncs_.size() >= options_.syncs_max && !syncs_.Holds(report.worker())) {
    metrics_.Refused("syncs").Increment();
    return reply(absl::ResourceExhaustedError(absl::StrCat(
        syncs_.size(), " reports of workers are held, want fewer than ", options_.syncs_max)));
  }
  const absl::Time received_at = Now();
  const auto received = scheduler_->ReceiveSync(report, received_at, Random());
  if (!received.ok()) return reply(received.status());
  syncs_.Add(id, std::move(report), received_at, std::move(reply));
  RequestTurn();
}

void SchedulerCore::WatchJob(int64_t id, const v1::WatchJobRequest& request,
                             std::unique_ptr<JobSink> sink) {
  watches_.WatchJob(id, request, std::move(sink));
  RequestTurn();
}

void SchedulerCore::WatchJobs(int64_t id, const v1::WatchJobsRequest& request,
                              std::unique_ptr<JobListSink> sink) {
  watches_.WatchJobs(id, request, std::move(sink));
  RequestTurn();
}

void SchedulerCore::WatchTaken(int64_t id) {
  watches_.Taken(id);
  // Otherwise the next turn does it.
  if (const State* state = CommittedState()) watches_.Pump(View(*state));
}

void SchedulerCore::TakeAnswer(const scheduler::Command& answer) {
  if (stopped_ || !scheduler_->loaded()) return;  // Asked again.
  const auto result = scheduler_->Execute(answer, Now(), Random());
  CHECK(result.ok()) << result.status();
  RequestTurn();
}

void SchedulerCore::UpdateGauges() {
  metrics_.loaded.Set(scheduler_->loaded() ? 1 : 0);
  metrics_.log_events.Set(static_cast<double>(events_.log_size()));
  const auto& workers = scheduler_->fleet().workers();
  metrics_.workers_online.Set(static_cast<double>(std::count_if(
      workers.begin(), workers.end(), [](const auto& entry) { return entry.second.online; })));
  if (const State* state = CommittedState()) CountJobs(*state, metrics_);
}

}  // namespace deltaworks::services

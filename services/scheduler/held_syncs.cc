#include "services/scheduler/held_syncs.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace deltaworks::services {
namespace {

bool WantsAnswer(const v1::AttemptReport& report) {
  return report.metrics_size() > 0 || report.logs_size() > 0 || report.has_checkpoint() ||
         report.has_result();
}

bool WantsAnswer(const v1::SyncRequest& report) {
  return std::any_of(report.attempts().begin(), report.attempts().end(),
                     [](const v1::AttemptReport& attempt) { return WantsAnswer(attempt); });
}

}  // namespace

HeldSyncs::HeldSyncs(EventLoop& loop, absl::Duration hold, std::function<void()> on_due,
                     SchedulerMetrics& metrics)
    : loop_(loop), hold_(hold), on_due_(std::move(on_due)), metrics_(metrics) {}

void HeldSyncs::Add(int64_t id, v1::SyncRequest report, absl::Time received_at, Reply reply) {
  const std::string worker = report.worker();
  const auto older = held_.find(worker);
  if (older != held_.end()) {
    Finish(Take(older), absl::AbortedError(absl::StrCat(worker, " sent report ",
                                                        report.report_number(), " meanwhile")));
  }
  Held& held = held_[worker];
  held.id = id;
  worker_of_[id] = worker;
  held.due = WantsAnswer(report);
  for (v1::AttemptReport& attempt : *report.mutable_attempts()) {
    attempt.clear_metrics();
    attempt.clear_logs();
  }
  held.report = std::move(report);
  held.received_at = received_at;
  held.reply = std::move(reply);
  LookAt(worker);
  held.timer = loop_.PostAfter(hold_, [this, worker, id] {
    const auto found = held_.find(worker);
    if (found == held_.end() || found->second.id != id) return;
    found->second.due = true;
    LookAt(worker);
    on_due_();
  });
  metrics_.syncs_held.Set(static_cast<double>(size()));
}

void HeldSyncs::Drop(int64_t id) {
  const auto worker = worker_of_.find(id);
  if (worker == worker_of_.end()) return;
  Finish(Take(held_.find(worker->second)), absl::CancelledError("the worker gave the report up"));
}

HeldSyncs::Held HeldSyncs::Take(absl::btree_map<std::string, Held>::iterator at) {
  Held held = std::move(at->second);
  worker_of_.erase(held.id);
  held_.erase(at);
  return held;
}

void HeldSyncs::LookAt(const std::string& worker) {
  if (Holds(worker)) to_look_at_.insert(worker);
}

void HeldSyncs::LookAtAll() {
  for (const auto& [worker, held] : held_) to_look_at_.insert(worker);
}

void HeldSyncs::LookAtLeaving(const scheduler::State& state) {
  for (const auto& [worker, held] : held_) {
    const auto& pieces = state.LoadOf(worker).pieces();
    if (std::any_of(pieces.begin(), pieces.end(),
                    [](const scheduler::WorkerLoad::Piece& piece) { return piece.leaving; })) {
      to_look_at_.insert(worker);
    }
  }
}

void HeldSyncs::AnswerReady(scheduler::Scheduler& scheduler, absl::Time now, bool all) {
  if (all) LookAtAll();
  for (const std::string& worker : std::exchange(to_look_at_, {})) {
    const auto it = held_.find(worker);
    if (it == held_.end()) continue;
    Held& held = it->second;
    scheduler::Scheduler::Sync sync = scheduler.AnswerSync(held.report, now);
    const bool is_news = sync.response.term() != held.report.seen_term() ||
                         sync.response.revision() > held.report.seen_revision();
    if (!all && !held.due && !is_news) continue;
    scheduler.SyncAnswered(held.report, sync.response, held.received_at);
    Finish(Take(it), std::move(sync.response));
  }
}

void HeldSyncs::Finish(Held held, absl::StatusOr<v1::SyncResponse> answer) {
  loop_.Cancel(held.timer);
  if (answer.ok()) metrics_.syncs_answered.Increment();
  metrics_.syncs_held.Set(static_cast<double>(size()));
  held.reply(std::move(answer));
}

}  // namespace deltaworks::services

// What a worker says, and when: one Sync under way, given up for news that should not wait.

#include <algorithm>
#include <utility>

#include "services/base/log.h"
#include "services/worker/worker_core.h"

namespace deltaworks::services {
namespace {

// News of one moment goes into one report.
constexpr absl::Duration kTogether = absl::Milliseconds(5);
// Syncs given up in a row.
constexpr int kGivenUpMax = 3;

}  // namespace

void WorkerCore::UrgentNews() {
  urgent_ = true;
  News();
}

void WorkerCore::News() {
  const absl::Duration now = clock_.Monotonic();
  // An error's wait is not cut short: the scheduler has trouble enough.
  if (waits_to_retry_) return;
  if (sync_.report_number == 0) return;  // The handler that runs sends when it is done.
  // A scheduler that answers slowly is not driven into never answering at all.
  if (given_up_ >= kGivenUpMax) return;
  const bool wants_answer = sync_.content || sync_.urgent;
  const absl::Duration patience = wants_answer ? options_.patience : kTogether;
  if (urgent_) {
    ArmSend(std::max(now, sync_.sent_at + patience));
  } else if (AnyContent()) {
    const absl::Duration due = sync_.content ? sync_.sent_at + lease_duration_ / 8 : content_due_;
    ArmSend(std::max({now, due, sync_.sent_at + patience}));
  }
}

// Nothing is sent from within a handler: what it still has to say goes into the same report.
void WorkerCore::ArmSend(absl::Duration at) {
  if (stopped_ || at >= send_at_) return;
  if (send_timer_ != 0) loop_.Cancel(send_timer_);
  send_at_ = at;
  send_timer_ = loop_.PostAfter(at - clock_.Monotonic(), [this] {
    send_timer_ = 0;
    send_at_ = absl::InfiniteDuration();
    Send();
  });
}

bool WorkerCore::AnyContent() const {
  return std::any_of(attempts_.begin(), attempts_.end(), [this](const auto& entry) {
    return HasContent(*entry.second, LeaseHolds(*entry.second));
  });
}

v1::SyncRequest WorkerCore::MakeRequest(bool content) {
  v1::SyncRequest request;
  request.set_worker(options_.worker);
  request.set_incarnation(options_.incarnation);
  request.set_report_number(sync_.report_number);
  *request.mutable_environment() = options_.environment;
  request.set_draining(draining_);
  // A worker that leaves with empty hands waits for one answer only: without a term it is not held
  // open.
  const bool says_goodbye = draining_ && attempts_.empty() && !drain_heard_;
  request.set_seen_term(says_goodbye ? 0 : seen_term_);
  request.set_seen_revision(says_goodbye ? 0 : seen_revision_);
  pass_timer_.AppendTo(&request);
  int64_t bytes_left = options_.report_bytes_max;
  for (auto& [id, attempt] : attempts_) {
    const ReportLimits limits = {
        .content = content, .lease_holds = LeaseHolds(*attempt), .bytes_max = bytes_left};
    bytes_left -= AppendReport(*attempt, limits, &request);
    const v1::AttemptReport& report = request.attempts(request.attempts_size() - 1);
    if (report.has_result()) attempt->result_reported = true;
    const bool last_word =
        report.phase() == v1::AttemptReport::LEFT || report.phase() == v1::AttemptReport::FAILED;
    if (last_word && attempt->last_word_report == 0) {
      attempt->last_word_report = sync_.report_number;
    }
  }
  return request;
}

void WorkerCore::Send() {
  if (stopped_) return;
  const absl::Duration now = clock_.Monotonic();
  if (sync_.report_number != 0) ++given_up_;
  sync_ = SyncUnderWay();
  sync_.report_number = ++last_report_number_;
  sync_.sent_at = now;
  sync_.draining = draining_;
  const bool content = AnyContent() && (urgent_ || now >= content_due_);
  if (content) content_due_ = now + options_.content_interval;
  sync_.content = content;
  sync_.urgent = std::exchange(urgent_, false);
  waits_to_retry_ = false;
  const v1::SyncRequest request = MakeRequest(content);
  // The scheduler holds it for at most a quarter of the lease.
  scheduler_.Send(
      request, lease_duration_ / 2,
      [this, number = sync_.report_number](absl::StatusOr<v1::SyncResponse> answer) mutable {
        loop_.Post([this, number, answer = std::move(answer)]() mutable {
          OnAnswer(number, std::move(answer));
        });
      });
  if (!sync_.content) News();
}

void WorkerCore::OnAnswer(int64_t report_number, absl::StatusOr<v1::SyncResponse> answer) {
  if (stopped_ || report_number != sync_.report_number) return;  // Given up.
  given_up_ = 0;
  if (!answer.ok()) {
    OnError(answer.status());
    return;
  }
  metrics_.syncs_answered.Increment();
  retry_wait_ = absl::ZeroDuration();
  const SyncUnderWay sync = std::exchange(sync_, SyncUnderWay());
  const bool older = answer->term() < seen_term_ ||
                     (answer->term() == seen_term_ && answer->revision() < seen_revision_);
  if (!older) {
    seen_term_ = answer->term();
    seen_revision_ = answer->revision();
    Apply(*answer, sync);
    drain_heard_ = drain_heard_ || sync.draining;
    MaybeDrained();
  }
  // An old answer came from a scheduler that is no more: the next one may need a moment.
  ArmSend(clock_.Monotonic() + (older ? options_.retry_first : absl::ZeroDuration()));
}

void WorkerCore::OnError(const absl::Status& status) {
  const bool was_draining = std::exchange(sync_, SyncUnderWay()).draining;
  metrics_.syncs_failed.Increment();
  if (absl::IsFailedPrecondition(status)) {
    LogError("this process must end", {{"worker", options_.worker}, {"error", status}});
    Stop();
    on_fatal_(status);
    return;
  }
  LogWarning("the scheduler did not answer a report", {{"error", status}});
  if (was_draining && attempts_.empty()) {
    // Nothing is held, and a scheduler that is away grants nothing.
    drain_heard_ = true;
    MaybeDrained();
  }
  urgent_ = true;  // What the lost report said is said again.
  retry_wait_ = std::clamp(retry_wait_ * 2, options_.retry_first, options_.retry_max);
  waits_to_retry_ = true;
  ArmSend(clock_.Monotonic() + retry_wait_);
}

}  // namespace deltaworks::services

// WorkerCore: a worker's side of the protocol: what it says in a Sync, what it makes of the answer.
//
// Event handlers only: no thread, sleep, clock or gRPC of its own. Everything runs on one
// EventLoop, so there is no lock. It promises:
//
//   lease     Counted from when the Sync was sent that the answer belongs to. When it has ended,
//             the job parks at a step's end and nothing of it is published, until an answer says
//             RUN or YIELD for the same attempt.
//   answers   Ordered by (term, revision); older ones are ignored. One Sync is under way; it is
//             given up when there is news that should not wait.
//   once      An attempt that ended here is never started again, whatever arrives late.
//   no loss   Metrics, logs, checkpoint and result are repeated until they are acknowledged. A
//             checkpoint that the store does not take is tried again while the job goes on; a
//             result is kept until the job is final.
//
// What wants an answer of the scheduler's (metrics, logs, checkpoint, result) is sent at most once
// each `content_interval`, unless it is new and urgent; in between a Sync carries phases only, so
// the scheduler can hold it open.

#ifndef DELTAWORKS_SERVICES_WORKER_WORKER_CORE_H_
#define DELTAWORKS_SERVICES_WORKER_WORKER_CORE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/base/clock.h"
#include "services/base/event_loop.h"
#include "services/worker/held_attempt.h"
#include "services/worker/metrics.h"
#include "services/worker/pass_timer.h"
#include "services/worker/report_channel.h"
#include "services/worker/seams.h"

namespace deltaworks::services {

class WorkerCore final : public TrainerEvents {
 public:
  struct Options {
    std::string worker;  // workers/{machine id}-{device id}
    int64_t incarnation = 0;
    v1::WorkerEnvironment environment;
    absl::Duration content_interval = absl::Seconds(1);
    // A Sync under way that wants an answer gets this long before it is given up for urgent news.
    absl::Duration patience = absl::Milliseconds(250);
    absl::Duration retry_first = absl::Milliseconds(100);
    absl::Duration retry_max = absl::Seconds(2);
    absl::Duration publish_retry_first = absl::Seconds(1);
    absl::Duration publish_retry_max = absl::Seconds(30);
    int64_t points_kept_max = 65'536;  // Of one attempt, not acknowledged.
    int64_t lines_kept_max = 1'024;
    int64_t report_bytes_max = 2 << 20;  // Of metrics and logs in one Sync.
    int64_t attempts_max = 256;
    int64_t corrupt_reads_max = 3;  // Of a result, before the attempt fails.
    size_t ended_kept_max = 1'024;  // Ids of attempts that are never started again.
    // How long a member of a gang that broke waits to be told to stop, before it fails: the cause
    // is with another worker, of which the scheduler hears from itself or by its lease. So does one
    // that left with the others since one of them was told to.
    absl::Duration gang_patience = absl::Minutes(1);
    // How long a job may stay parked while the scheduler answers without naming it, as one does
    // that lost its state.
    absl::Duration unnamed_max = absl::Hours(1);
  };

  // All references must outlive the core, and the core the loop's tasks. `on_fatal` is called once
  // if this process must end: a higher incarnation of the worker was seen.
  WorkerCore(Options options, const Clock& clock, EventLoop& loop, ReportChannel& scheduler,
             Trainer& trainer, Publisher& publisher, WorkerMetrics& metrics,
             std::function<void(absl::Status)> on_fatal);

  // Everything below on the loop.

  // Sends the first Sync.
  void Start();
  // Asks for no new job, lets every attempt checkpoint and leave. `done` is called once the
  // scheduler has taken back all of them, or does not answer and there is none; at once after
  // Stop().
  void Drain(std::function<void()> done);
  // Gives up the Sync under way and sends no more; nothing more is published.
  void Stop();
  // Said from the next report on.
  void SetBasesCached(const std::vector<std::string>& manifest_digests);

  size_t attempts_held() const { return attempts_.size(); }

  void OnTraining(const AttemptKey& key, int64_t step) override;
  void OnPass(const PassReport& pass) override;
  void OnProgress(const AttemptKey& key, v1::MetricPoint point) override;
  void OnLog(const AttemptKey& key, v1::JobEvent::Level level, std::string message) override;
  void OnCheckpoint(const AttemptKey& key, std::shared_ptr<const Artifact> artifact) override;
  void OnLeft(const AttemptKey& key, std::shared_ptr<const Artifact> checkpoint) override;
  void OnFailed(const AttemptKey& key, v1::Failure failure) override;
  void OnFinished(const AttemptKey& key, TrainedResult result) override;
  void OnVerified(const AttemptKey& key, absl::Status status) override;

 private:
  struct SyncUnderWay {
    int64_t report_number = 0;  // 0: none.
    absl::Duration sent_at;
    bool content = false;  // It carries something to take in.
    bool urgent = false;   // It was sent for urgent news.
    bool draining = false;
  };

  // ---- Saying: worker_core_sync.cc ----
  // Something that should not wait for the Sync under way to end.
  void UrgentNews();
  // Something that may wait for content_interval.
  void News();
  void ArmSend(absl::Duration at);
  void Send();
  v1::SyncRequest MakeRequest(bool content);
  void OnAnswer(int64_t report_number, absl::StatusOr<v1::SyncResponse> answer);
  void OnError(const absl::Status& status);
  bool AnyContent() const;

  // ---- Hearing ----
  void Apply(const v1::SyncResponse& response, const SyncUnderWay& sync);
  // `report_number`: of the report that was answered.
  void ApplyToHeld(const v1::Assignment& assignment, int64_t report_number,
                   absl::Duration lease_end, HeldAttempt& attempt);
  void ApplyStop(const v1::Assignment& assignment, int64_t report_number, HeldAttempt& attempt);
  void StartAttempt(const v1::Assignment& assignment, absl::Duration lease_end);
  // Attempts that the answer to `sync` did not name.
  void ForgetUnnamed(const absl::flat_hash_set<std::string>& named);
  void Forget(const std::string& attempt_id);
  void MaybeDrained();

  // ---- An attempt ----
  HeldAttempt* Find(const AttemptKey& key);
  bool LeaseHolds(const HeldAttempt& attempt) const;
  void Renew(HeldAttempt& attempt, absl::Duration lease_end);
  void OnLeaseTimer(const AttemptKey& key);
  void BeginLeaving(HeldAttempt& attempt);
  void StopAttempt(HeldAttempt& attempt);
  void Fail(HeldAttempt& attempt, v1::Failure failure);
  void GangBroke(HeldAttempt& attempt, v1::Failure failure);
  // `then`, unless it is told before what to do.
  void AwaitOrder(HeldAttempt& attempt, std::function<void(HeldAttempt&)> then);
  // Of a finished one, if it is still in memory.
  void DropRun(HeldAttempt& attempt);
  void AddLog(HeldAttempt& attempt, v1::JobEvent::Level level, std::string message);
  void ArmCheckpointTimer(HeldAttempt& attempt);
  void PauseCheckpointTimer(HeldAttempt& attempt);
  void ClearTimers(HeldAttempt& attempt);

  // ---- Publishing: worker_core_publish.cc ----
  // Begins what should be done next, if anything may be.
  void Advance(HeldAttempt& attempt);
  void AdvanceResult(HeldAttempt& attempt);
  void PublishCheckpoint(HeldAttempt& attempt);
  void OnCheckpointPublished(const AttemptKey& key, std::shared_ptr<const Artifact> artifact,
                             const absl::Status& status);
  void OnResultPublished(const AttemptKey& key, const absl::Status& status);
  void OnReadBack(const AttemptKey& key, absl::StatusOr<Publisher::AdapterBytes> bytes);
  void ArmRetry(HeldAttempt& attempt);
  void ResultIsCorrupt(HeldAttempt& attempt, const absl::Status& status);

  Options options_;
  const Clock& clock_;
  EventLoop& loop_;
  ReportChannel& scheduler_;
  Trainer& trainer_;
  Publisher& publisher_;
  WorkerMetrics& metrics_;
  const std::function<void(absl::Status)> on_fatal_;

  absl::btree_map<std::string, std::unique_ptr<HeldAttempt>> attempts_;  // By attempt id.
  absl::flat_hash_set<std::string> ended_;                               // Attempt ids.
  std::deque<std::string> ended_order_;
  PassTimer pass_timer_;

  int64_t last_report_number_ = 0;
  int64_t seen_term_ = 0;
  int64_t seen_revision_ = 0;
  absl::Duration lease_duration_ = absl::Seconds(20);
  SyncUnderWay sync_;
  bool urgent_ = false;  // Since the last Sync was sent.
  absl::Duration content_due_ = absl::ZeroDuration();
  absl::Duration send_at_ = absl::InfiniteDuration();
  EventLoop::TimerId send_timer_ = 0;
  absl::Duration retry_wait_ = absl::ZeroDuration();  // The last one, since an answer came.
  bool waits_to_retry_ = false;
  int given_up_ = 0;  // Since a Sync ended by itself.

  bool stopped_ = false;
  bool draining_ = false;
  bool drain_heard_ = false;  // The scheduler answered a Sync that said so.
  std::function<void()> drained_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_WORKER_CORE_H_

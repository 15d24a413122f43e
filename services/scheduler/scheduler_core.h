// SchedulerCore: the process around the pure core: the loop's turn, commits, and what waits for
// them.
//
//   Change, ReceiveSync  fold at once, ask for a turn       \  any number
//   Read                 at once if nothing is uncommitted  /
//   turn                 plan -> one commit -> leases -> answers, watches, questions
//
// Nothing leaves before its commit. If a commit fails, or its outcome is unknown, what was folded
// is dropped: callers get UNAVAILABLE (RESOURCE_EXHAUSTED if the disk is full: then nothing was
// stored), the store is loaded again, and after a wait that grows the core goes on from there.
// Until then Syncs renew the attempts of the last committed state, reads show that state, and
// changes are refused. Workers notice nothing.
//
// Event handlers on one loop, no gRPC, thread or sleep: FakeEventLoop drives these very files. All
// methods are called on the loop, but for NewId; the destructor, after the loop and the pool are
// gone.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_SCHEDULER_CORE_H_
#define DELTAWORKS_SERVICES_SCHEDULER_SCHEDULER_CORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/scheduler.h"
#include "services/base/clock.h"
#include "services/base/event_loop.h"
#include "services/clients/registry_client.h"
#include "services/clients/store_client.h"
#include "services/scheduler/asks.h"
#include "services/scheduler/call_pool.h"
#include "services/scheduler/committed_view.h"
#include "services/scheduler/estimate_errors.h"
#include "services/scheduler/event_store.h"
#include "services/scheduler/held_syncs.h"
#include "services/scheduler/metrics.h"
#include "services/scheduler/pins.h"
#include "services/scheduler/watch.h"

namespace deltaworks::services {

class SchedulerCore {
 public:
  struct Options {
    scheduler::Options policy;
    absl::Duration tick_interval = absl::Seconds(1);
    // Events in the log that a snapshot replaces.
    int64_t snapshot_events = 2'000;
    // Callers that wait for one commit, and workers whose reports are held.
    int64_t waiting_max = 10'000;
    int64_t syncs_max = 10'000;
    // Jobs are deleted so long after they ended; 0: never.
    absl::Duration job_retention;
    // Jobs that are estimated at the same time.
    int64_t estimates_max = 8;
    // Waits before going on after a commit that failed.
    absl::Duration reload_first = absl::Milliseconds(100);
    absl::Duration reload_max = absl::Seconds(5);
    Asks::Options asks;
    Pins::Options pins;
    Watches::Options watches;
    // 64 bits that nobody can guess. Null: the system's.
    std::function<uint64_t()> random;
  };

  using JobReply = absl::AnyInvocable<void(absl::StatusOr<v1::Job>)>;
  // Gets the view, or why there is none. Called once.
  using Reader = absl::AnyInvocable<void(absl::StatusOr<CommittedView>)>;

  // The core must outlive the tasks of `loop` and `pool`, and everything else must outlive it.
  SchedulerCore(const Options& options, const Clock& clock, EventLoop& loop, CallPool& pool,
                EventStore& events, StoreClient& store, RegistryClient& registry,
                SchedulerMetrics& metrics);

  // Loads, and commits the start. Errors of the event store; then the core must not be used.
  absl::Status Start();
  // Answers all that is held, ends watches with UNAVAILABLE, and refuses everything from then on.
  // Leases stay as they are.
  void Stop();

  // A person's command (not one of the platform). The reply is the job as it then is.
  void Change(const scheduler::Command& command, JobReply reply);
  // An operator's command; the reader comes after its commit.
  void ChangeThenRead(const scheduler::Command& command, Reader reader);
  void Read(Reader reader);

  // What would become of a job. The store is asked; nothing is stored.
  using EstimateReply = absl::AnyInvocable<void(absl::StatusOr<v1::EstimateJobResponse>)>;
  void EstimateJob(const v1::EstimateJobRequest& request, EstimateReply reply);

  // Unique in this process, for Syncs and watches. Thread-safe.
  int64_t NewId() { return next_id_.fetch_add(1); }

  // Takes in a well-formed report of a worker; `id` names it for DropSync.
  void ReceiveSync(int64_t id, v1::SyncRequest report, HeldSyncs::Reply reply);
  void DropSync(int64_t id) { syncs_.Drop(id); }

  void WatchJob(int64_t id, const v1::WatchJobRequest& request, std::unique_ptr<JobSink> sink);
  void WatchJobs(int64_t id, const v1::WatchJobsRequest& request,
                 std::unique_ptr<JobListSink> sink);
  void WatchTaken(int64_t id);
  void DropWatch(int64_t id) { watches_.Drop(id); }

 private:
  // A Reader that also gets the job that its command was about; empty if it was about none.
  using ChangeReader =
      absl::AnyInvocable<void(absl::StatusOr<CommittedView>, const std::string& job)>;

  absl::Time Now() const;
  scheduler::RandomBits Random() { return random_; }
  // What is durable, folded. Everything in it that was not known to be is told to those concerned.
  absl::StatusOr<std::unique_ptr<scheduler::State>> LoadState();
  // Once a second: a turn for what time alone changes.
  void Tick();
  void RequestTurn();
  void Turn();
  // Stores what was folded. False if that failed.
  bool Commit();
  // After an error of the store: shows what is durable, refuses changes, and goes on later.
  void Unload(const absl::Status& status, bool is_known);
  void ReloadAfter(absl::Duration wait);
  void Reload();
  // Tells everybody what was committed.
  void Committed(const scheduler::Event& event, int64_t position, const scheduler::State& state);
  void MaybeWriteSnapshot();
  // Once a second.
  void DropOldJobs();
  // An answer of store or registry.
  void TakeAnswer(const scheduler::Command& answer);
  // The state to show: nullptr if there is none, or something in it is not committed.
  const scheduler::State* CommittedState() const;
  CommittedView View(const scheduler::State& state);
  void FinishEstimate(int64_t id, v1::Job job, absl::StatusOr<v1::ValidateTrainingResponse> answer);
  // Carries `command` out; the reader comes after its commit.
  void Execute(const scheduler::Command& command, ChangeReader reader);
  // ResourceExhausted if too many calls wait for a commit.
  absl::Status CheckRoom();
  void AnswerWaiting();
  void UpdateGauges();

  absl::btree_map<int64_t, EstimateReply> estimates_;  // Under way.

  struct Waiting {
    bool is_change = false;
    Reader reader;
  };

  const Options options_;
  const Clock& clock_;
  EventLoop& loop_;
  EventStore& events_;
  SchedulerMetrics& metrics_;
  std::function<uint64_t()> random_;
  std::atomic<int64_t> next_id_{1};

  // The core's time: the wall clock once, then monotonic, never below the last time stored.
  absl::Time time_base_;
  absl::Duration monotonic_base_;

  std::unique_ptr<scheduler::Scheduler> scheduler_;
  // What is shown while the scheduler is not loaded; null if it could not be read either.
  std::unique_ptr<scheduler::State> readable_;
  int64_t committed_ = 0;
  // Why changes are refused while not loaded.
  absl::Status refusal_;
  absl::Duration reload_wait_;
  EventLoop::TimerId reload_timer_ = 0;
  EventLoop::TimerId tick_timer_ = 0;
  absl::Time next_snapshot_ = absl::InfinitePast();

  // The next turn looks at every held report: another state answers them, or none.
  bool look_at_all_ = false;
  // It looks at the reports of those told to leave.
  bool look_at_leaving_ = false;
  // It sets the gauges, at its end.
  bool gauges_due_ = false;
  bool retention_due_ = false;
  bool turn_posted_ = false;
  bool stopped_ = false;
  std::vector<Waiting> waiting_;
  HeldSyncs syncs_;
  Watches watches_;
  EstimateErrors estimate_errors_;
  Asks asks_;
  Pins pins_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_SCHEDULER_CORE_H_

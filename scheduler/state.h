// State: everything the scheduler decided and stored, in memory.
//
// Changed by Fold alone. Equal events give equal states; a Snapshot and the events after it give
// the same as all events from the beginning. The indexes below are derived and not stored.
//
// Pure state: no clock, no I/O. Not thread-safe; its owner serialises all access.

#ifndef DELTAWORKS_SCHEDULER_STATE_H_
#define DELTAWORKS_SCHEDULER_STATE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/event.pb.h"
#include "scheduler/job_queue.h"
#include "scheduler/options.h"
#include "scheduler/request_log.h"
#include "scheduler/usage.h"
#include "scheduler/work.h"
#include "scheduler/worker_load.h"
#include "scheduler/worker_trouble.h"

namespace deltaworks::scheduler {

class State {
 public:
  using Names = absl::btree_set<std::string>;

  explicit State(const Options& options) : options_(options), queue_(options) {}

  // DataLoss if the snapshot contradicts itself.
  static absl::StatusOr<std::unique_ptr<State>> FromSnapshot(const Snapshot& snapshot,
                                                             const Options& options);
  Snapshot ToSnapshot() const;

  // On error (see FoldIntoJob) the state is unusable: drop it.
  absl::Status Fold(const Event& event);

  // nullptr if there is none. Valid until the next Fold.
  const JobRecord* FindJob(absl::string_view name) const;

  // All jobs but archived ones, by name.
  const std::map<std::string, JobRecord>& jobs() const { return jobs_; }
  // QUEUED jobs, but for those that wait for a time.
  const JobQueue& queue() const { return queue_; }
  using Times = absl::btree_set<std::pair<absl::Time, std::string>>;
  // QUEUED jobs that are not in the queue yet, by when they will be.
  const Times& waits_until() const { return waits_until_; }
  // Final jobs that are not archived yet, by when they ended.
  const Times& ended() const { return ended_; }
  // Jobs of `tenant`, by when they were created, then name; views of the names.
  using Ages = absl::btree_set<std::pair<absl::Time, absl::string_view>>;
  const Ages& AgesOf(absl::string_view tenant) const;
  // Jobs that fail at their deadline, by it.
  const Times& deadlines() const { return deadlines_; }
  // QUEUED jobs for which room is being made.
  const Names& promised() const { return promised_; }
  const Names& validating() const { return validating_; }
  const Names& finalizing() const { return finalizing_; }
  // Jobs whose current attempt is on `worker`.
  const Names& JobsOn(absl::string_view worker) const;
  // Workers with a current attempt.
  const absl::btree_map<std::string, Names>& jobs_by_worker() const { return jobs_by_worker_; }
  // What the current attempts on `worker` take.
  const WorkerLoad& LoadOf(absl::string_view worker) const;
  // Workers whose attempts or mode changed since the last call, by name.
  Names TakeChangedWorkers() { return std::exchange(changed_workers_, {}); }

  // What the jobs with a current attempt still need, by shapes of which only base, compute type and
  // device kind are filled in.
  struct Running {
    int64_t attempts = 0;
    Work work;
  };
  const std::map<JobShape, Running>& running() const { return running_; }

  // Workers that attempts of `tenant` are on, with their number.
  const absl::btree_map<std::string, int64_t>& DevicesOf(absl::string_view tenant) const;
  int64_t AttemptsOf(absl::string_view tenant) const;
  const Usage& usage() const { return usage_; }
  // By tenant; those that were set.
  const absl::btree_map<std::string, v1::Quota>& quotas() const { return quotas_; }
  // What the operator said, or quarantine; ACTIVE if nothing.
  v1::WorkerMode WorkerMode(absl::string_view worker) const;
  // By worker; those that are not ACTIVE.
  const absl::btree_map<std::string, WorkerModeSet>& worker_modes() const { return worker_modes_; }
  const WorkerTroubles& troubles() const { return troubles_; }

  const RequestLog& requests() const { return requests_; }
  // The highest incarnation of `worker` that ever reported; 0 if none did.
  int64_t WorkerIncarnation(absl::string_view worker) const;
  // Jobs that are not final.
  int64_t active_jobs() const { return active_jobs_; }
  int64_t term() const { return term_; }
  // Of the last event.
  absl::Time last_time() const { return last_time_; }
  int64_t event_count() const { return event_count_; }

 private:
  absl::Status FoldPlatform(const Event& event);
  absl::Status FoldJob(const Event& event);
  JobRecord& Insert(const std::string& name, JobRecord record);
  absl::Status FoldArchived(const Event& event);
  absl::Status FoldWorkerJoined(const WorkerJoined& joined);
  // Takes `record` into the indexes, or out of them.
  void Index(const JobRecord& record, bool in);
  void IndexQueued(const JobRecord& record, bool in);
  void IndexCurrent(const JobRecord& record, bool in);
  void IndexHolder(const JobRecord& record, const JobShape& shape, const std::string& worker,
                   bool in);

  const Options options_;
  std::map<std::string, JobRecord> jobs_;
  absl::flat_hash_map<absl::string_view, JobRecord*> job_by_name_;  // Of jobs_.
  RequestLog requests_;
  absl::btree_map<std::string, int64_t> workers_;
  int64_t term_ = 0;
  absl::Time last_time_ = absl::UnixEpoch();
  int64_t event_count_ = 0;

  Usage usage_;
  absl::btree_map<std::string, v1::Quota> quotas_;
  absl::btree_map<std::string, WorkerModeSet> worker_modes_;
  WorkerTroubles troubles_;

  JobQueue queue_;
  Times waits_until_;
  Times ended_;
  absl::btree_map<std::string, Ages> ages_;  // By tenant.
  Times deadlines_;
  Names promised_;
  Names validating_;
  Names finalizing_;
  absl::btree_map<std::string, Names> jobs_by_worker_;
  absl::node_hash_map<std::string, WorkerLoad> loads_;  // By worker.
  Names changed_workers_;
  std::map<JobShape, Running> running_;
  struct Devices {
    int64_t attempts = 0;
    absl::btree_map<std::string, int64_t> by_worker;
  };
  absl::btree_map<std::string, Devices> devices_;  // By tenant.
  int64_t active_jobs_ = 0;
};

// The bytes of a message, equal for equal messages also where they hold maps.
std::string DeterministicBytes(const google::protobuf::Message& message);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_STATE_H_

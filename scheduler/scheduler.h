// Scheduler: the core with everything that stands beside it, for a service or a simulator to drive.
//
//   Scheduler
//    |- State       what was decided; dropped and loaded again if a commit fails
//    |- LeaseTable  deadlines of the committed attempts   } survive
//    `- Fleet       what the workers say                  } a reload
//
// How to drive it (one event loop, no thread, no waiting inside):
//
//   Load                                       Execute and ReceiveSync fold at once; Tick plans
//   TakeEvents -> store them in one commit     Committed(position): leases follow what is durable
//   send what waits for <= position            commit failed or unknown: Unload, then Load again
//
// Every result carries a position: the number of events folded when it was made. An answer, a watch
// event or a grant goes out only after Committed reached that position; nothing else makes "durable
// first" true. Unload makes every position that is not committed void: whoever waits for one gets
// UNAVAILABLE. While unloaded, ReceiveSync renews the attempts of the last committed state and
// everything else is UNAVAILABLE.
//
// Pure: time and randomness are arguments. Not thread-safe.

#ifndef DELTAWORKS_SCHEDULER_SCHEDULER_H_
#define DELTAWORKS_SCHEDULER_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/command.h"
#include "scheduler/decide.h"
#include "scheduler/estimator.h"
#include "scheduler/fleet.h"
#include "scheduler/job_archive.h"
#include "scheduler/lease_table.h"
#include "scheduler/options.h"
#include "scheduler/pass_speed.h"
#include "scheduler/plan.h"
#include "scheduler/start_bounds.h"
#include "scheduler/state.h"
#include "scheduler/worker_index.h"

namespace deltaworks::scheduler {

class Scheduler {
 public:
  struct Result {
    int64_t position = 0;
    std::string job;  // Of a person's command.
  };

  struct Sync {
    int64_t position = 0;
    v1::SyncResponse response;
  };

  // `started_at`: when this process began to listen. `archive` has what is committed; null if
  // nothing of it is ever asked for.
  Scheduler(const Options& options, JobArchive* archive, absl::Time started_at);

  // Takes a state that was folded from everything stored. The first Load is a start: it raises the
  // term (one event to commit), and every attempt gets one full lease and the grace. At later ones
  // leases that were known go on.
  void Load(std::unique_ptr<State> state, absl::Time now);
  // Drops the state, with what was folded and not committed.
  void Unload();
  bool loaded() const { return state_ != nullptr; }
  // nullptr while unloaded. Shows what is folded, not only what is committed.
  const State* state() const { return state_.get(); }

  // Decides and folds. Errors as Decide, or UNAVAILABLE while unloaded; nothing was folded then.
  absl::StatusOr<Result> Execute(const Command& command, absl::Time now, RandomBits random);

  // Carries out plans until they have no more commands, or for kPlansMax. To be called after every
  // change, and once a second for the deadlines.
  static constexpr int kPlansMax = 8;
  // Jobs archived by one Tick.
  static constexpr int kArchivesMax = 256;
  struct Due {
    int64_t position = 0;
    // There is more to carry out: call it again.
    bool more = false;
  };
  Due Tick(absl::Time now, RandomBits random);

  // Takes a report in and renews what it lists. Errors as Fleet::Accept. Tick and AnswerSync
  // follow.
  absl::StatusOr<Result> ReceiveSync(const v1::SyncRequest& report, absl::Time received_at,
                                     RandomBits random);

  // The answer to a report that was taken in, as of `now`; may be asked again while it is held. The
  // response's revision is larger than seen_revision, or its term another, if it says something
  // new.
  Sync AnswerSync(const v1::SyncRequest& report, absl::Time now);
  // To be called when the answer is sent: each attempt that it says RUN or YIELD for is renewed.
  void SyncAnswered(const v1::SyncRequest& report, const v1::SyncResponse& response,
                    absl::Time received_at);

  // Events folded and not yet taken, in order.
  std::vector<Event> TakeEvents();
  // All events up to `position` are durable.
  void Committed(int64_t position, absl::Time now);

  const Fleet& fleet() const { return fleet_; }
  const LeaseTable& leases() const { return leases_; }
  // Valid while loaded; up to date after Tick.
  const WorkerIndex& workers() const { return *workers_; }
  // Of the present; valid while loaded, as of the last change.
  Estimator estimator() const { return {*state_, fleet_, *workers_, speeds_, options_}; }
  const Speeds& speeds() const { return speeds_; }
  const Options& options() const { return options_; }

 private:
  Result Fold(Decision decision);
  void RenewStartBounds(absl::Time now, RandomBits random);
  void ArchiveEnded(absl::Time now, RandomBits random);
  // Tells the index what changed.
  void UpdateWorkers();

  const Options options_;
  std::unique_ptr<State> state_;
  LeaseTable leases_;
  Fleet fleet_;
  std::unique_ptr<WorkerIndex> workers_;  // Of *state_ and fleet_.
  Speeds speeds_;
  JobArchiveOverlay archive_;  // What is not committed is folded in.
  StartBounds start_bounds_;
  absl::Time next_preemption_ = absl::InfinitePast();
  absl::Time next_start_bounds_ = absl::InfinitePast();
  // Of this process; 0 before the first Load.
  int64_t term_ = 0;
  std::vector<Event> untaken_;
  // Folded, not committed; the first has the position committed_ + 1.
  std::deque<Event> uncommitted_;
  int64_t committed_ = 0;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_SCHEDULER_H_

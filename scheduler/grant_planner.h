// GrantPlanner: which waiting jobs get which workers, now.
//
//   1. promised  A job for which others were told to make room gets that worker, and nobody else.
//      So does one that will be tried again within retry_hold.
//   2. overdue   Jobs that have waited for max_overtake, and the largest bonus in their class's
//                favour: the smallest key first, whosever it is.
//   3. fair      Of the tenants the one whose turn it is (fair_share.h), its smallest key first.
//
// A job that finds no room now, though a worker could hold it, keeps one for itself: the one that
// will be empty soonest. Those that train there go on, but nobody behind the job may join them. So
// no stream of small or later jobs keeps a large, a different or an older one waiting for ever.
// Overdue jobs keep a worker each; of the others the first kHeldMax that cannot run, by shape.
//
// A gang is placed on all the workers it needs, of one kind and empty, or not at all; it keeps as
// many. Nobody ever holds a part of what he needs, so two gangs cannot wait for each other.
//
// No job puts its tenant on more devices than its limit. What is planned counts at once. Asks by
// shape, so its cost does not grow with the length of the queue. Used once; everything passed in
// must outlive it and stay as it is.

#ifndef DELTAWORKS_SCHEDULER_GRANT_PLANNER_H_
#define DELTAWORKS_SCHEDULER_GRANT_PLANNER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "scheduler/command.h"
#include "scheduler/fair_share.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/state.h"
#include "scheduler/worker_index.h"

namespace deltaworks::scheduler {

class GrantPlanner {
 public:
  // Grants of one plan; the next goes on.
  static constexpr size_t kGrantsMax = 256;
  static constexpr size_t kHeldMax = 16;
  static constexpr size_t kHeldOverdueMax = 256;

  GrantPlanner(const State& state, const Fleet& fleet, const WorkerIndex& workers,
               const Options& options, absl::Time now);

  // In the order in which they are to be carried out.
  std::vector<GrantAttempt> Run();

 private:
  using ShapeQueue = JobQueue::ShapeQueue;

  struct Turn;
  // The jobs of one tenant and shape that are still to be looked at.
  struct Line {
    JobQueue::Keys::const_iterator next;
    JobQueue::Keys::const_iterator end;
    const ShapeQueue* shape;
    Turn* turn;
  };
  // The line whose next job has the smallest key first: a heap.
  class Lines {
   public:
    bool empty() const { return heap_.empty(); }
    const Line& first() const { return heap_.front(); }
    void Push(const Line& line);
    Line Pop();

   private:
    static bool IsLater(const Line& a, const Line& b) { return *b.next < *a.next; }

    std::vector<Line> heap_;
  };
  struct Turn {
    std::string tenant;
    TenantShare share;
    Lines lines;
    absl::btree_set<std::string> planned_devices;
  };

  void PlacePromised();
  void HoldForRetries();
  // False if so many overdue jobs wait that everything is to be kept for them.
  bool PlaceOverdue();
  void PlaceFairly();

  // Fills full_; false if none has room.
  bool FindRoom();
  Turn& TurnOf(const std::string& tenant);
  bool MayBeOn(const Turn& turn, const std::string& worker) const;
  // Its tenant may not be on as many more devices as the job needs.
  static bool IsLimited(const JobShape& shape, const Turn& turn);
  bool IsHeldFromJob(const std::string& worker, const std::string& job) const;
  bool MayChange(const ShapeQueue& shape);

  // The best worker for a job of the tenant; nullptr if there is none.
  const WorkerInfo* Choose(const QueueKey& key, const ShapeQueue& shape, const Turn& turn);
  bool Place(const QueueKey& key, const ShapeQueue& shape, Turn* turn);
  // Of one kind, empty and unplanned; none if there are too few.
  std::vector<const WorkerInfo*> ChooseGang(const std::string& job, const JobShape& shape,
                                            bool any_class, const Turn& turn) const;
  void Grant(const QueueKey& key, const JobShape& shape, const WorkerInfo& worker, Turn* turn);
  void GrantGang(const QueueKey& key, const JobShape& shape,
                 const std::vector<const WorkerInfo*>& gang, Turn* turn);
  void PlanOn(const std::string& job, const JobShape& shape, const WorkerInfo& worker, Turn* turn);
  // False if there are none to keep.
  bool HoldFor(const std::string& job, const JobShape& shape, bool any_class);
  void Hold(const QueueKey& key, const ShapeQueue& shape);
  // Puts the line in, from its first job that is not placed, if there is one.
  void PushUnplaced(Line line, Lines* lines) const;
  const WorkerLoad& LoadOf(const std::string& worker) const;

  const State& state_;
  const Fleet& fleet_;
  const WorkerIndex& workers_;
  const Options& options_;
  const absl::Time now_;

  std::vector<GrantAttempt> grants_;
  absl::flat_hash_set<std::string> placed_;
  // Loads of workers that were granted something in this plan.
  absl::btree_map<std::string, WorkerLoad> planned_;
  // Workers that are kept, each for a job, and the jobs that asked for one.
  absl::btree_map<std::string, std::string> held_;
  absl::flat_hash_set<std::string> holders_;
  // By tenant; addresses stay.
  std::map<std::string, Turn> turns_;
  absl::flat_hash_map<const ShapeQueue*, bool> may_change_;
  // No room now, whosever job it is.
  absl::flat_hash_set<const ShapeQueue*> full_;
};

// Whether the job's promise still stands: see WorkerPromised.
bool PromiseStands(const JobRecord& record, const State& state, const Fleet& fleet,
                   const Options& options, absl::Time now);

// The tenant's share as the state has it.
TenantShare ShareOf(const std::string& tenant, const State& state, const Options& options,
                    absl::Time now);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_GRANT_PLANNER_H_

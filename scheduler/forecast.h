// Forecast: when a waiting job will start and end.
//
// Plays the grants that are to come, on the loads, shares and pass times of now: each worker's jobs
// share its passes until one is through; then whose turn it is takes the room, as in
// grant_planner.h. It goes wrong as far as the times do, and as far as people submit, cancel and
// pause, workers die, and jobs are preempted: nothing of that is played, nor are gangs that wait.
//
// Bounded: beyond kStartsMax starts, or kChecksMax looks whether a job fits, it says only until
// when the job did not start. Used once; everything passed in must outlive it and stay as it is.

#ifndef DELTAWORKS_SCHEDULER_FORECAST_H_
#define DELTAWORKS_SCHEDULER_FORECAST_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/time/time.h"
#include "scheduler/fair_share.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/state.h"
#include "scheduler/worker_index.h"

namespace deltaworks::scheduler {

class Forecast {
 public:
  static constexpr int kStartsMax = 1'000;
  static constexpr int kChecksMax = 100'000;
  // Of each kind, those that will be empty soonest.
  static constexpr int kDevicesMax = 1'000;

  struct Answer {
    // When there is room for the job, whoever takes it.
    std::optional<absl::Time> earliest_start;
    std::optional<absl::Time> start;
    std::optional<absl::Time> end;
    // It did not start before.
    absl::Time played_until;
  };

  Forecast(const State& state, const Fleet& fleet, const WorkerIndex& workers,
           const Options& options, absl::Time now);

  // Of a QUEUED job; one that the state does not know counts as if it did.
  Answer Of(const JobRecord& record);

 private:
  using ShapeQueue = JobQueue::ShapeQueue;

  struct Turn {
    std::string tenant;
    TenantShare share;
    // Of each shape what is next; those with nothing left are dropped.
    struct Next {
      const ShapeQueue* queue;
      const JobQueue::Keys* keys;
      JobQueue::Keys::const_iterator key;
    };
    std::vector<Next> next;
    absl::btree_map<const WorkerInfo*, int64_t> attempts_on;

    const Next* Head() const;
  };

  struct Member {
    std::string job;
    double passes_left = 0;
    double tokens_by_pass = 0;
  };

  struct Device {
    const WorkerInfo* worker = nullptr;
    WorkerLoad load;
    std::vector<Member> members;
    double fixed_seconds = 0;
    double seconds_per_token = 0;
    absl::Time as_of;
    absl::Time next_end = absl::InfiniteFuture();
    absl::Time empty_at;  // If nobody joins.
  };

  void AddDevice(const WorkerInfo& worker);
  void AddMember(const JobRecord& record, bool leaving, Device* device);
  static double PassSeconds(const Device& device);
  // Says when the next member of the device is through, and all of them.
  void Schedule(size_t index);
  // Plays until then; the member that is through leaves.
  void EndMember(size_t index, absl::Time time);
  // Gives room to those whose turn it is.
  void Fill(size_t index);
  bool FillOne(size_t index);
  // Before whom the turn is.
  std::tuple<absl::Time, bool, double, QueueKey> OrderOf(const Turn& turn) const;
  bool Takes(const JobShape& shape, const Device& device);
  bool MayBeOn(const Turn& turn, const WorkerInfo* worker) const;
  // Holds the device that is empty soonest for a job that finds no room, as a plan does.
  void Hold(const Turn::Next& next, std::set<size_t>* held);
  bool MayChange(const ShapeQueue& queue);
  void Start(size_t index, Turn* turn, size_t next);

  const State& state_;
  const Fleet& fleet_;
  const Options& options_;
  absl::Time now_;
  std::vector<Device> devices_;
  std::set<std::pair<absl::Time, size_t>> ends_;     // By next_end.
  std::set<std::pair<absl::Time, size_t>> empties_;  // By empty_at.
  std::map<std::string, Turn> turns_;
  std::map<const ShapeQueue*, bool> any_class_;
  int starts_ = 0;
  int checks_ = 0;

  const JobRecord* asked_ = nullptr;
  std::optional<ShapeQueue> asked_queue_;  // Of it alone, if the state does not know it.
  Answer answer_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_FORECAST_H_

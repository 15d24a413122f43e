// Watches: the open streams of WatchJob and WatchJobs, and when each has something to say.
//
// A watch holds numbers, no data: which seq and metric index (or position in the order of changes)
// its client was given last. What follows is read from the committed state and the event store when
// the client took the response before; so nothing can be missed or repeated, and a watcher costs
// one response of at most 1,000 events and points, however slow it is. A watcher that had caught up
// and then falls more than `lag_max` events and points behind is cut off.
//
// Lives on the loop. The core calls Changed for each committed event and Pump when the state in
// memory is the committed one.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_WATCH_H_
#define DELTAWORKS_SERVICES_SCHEDULER_WATCH_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "services/scheduler/committed_view.h"
#include "services/scheduler/metrics.h"

namespace deltaworks::services {

// Where a watch's responses go. Send is followed by Watches::Taken once there is room for another;
// End is the last call.
template <typename Response>
class WatchSink {
 public:
  virtual ~WatchSink() = default;
  virtual void Send(Response response) = 0;
  virtual void End(absl::Status status) = 0;
};
using JobSink = WatchSink<v1::WatchJobResponse>;
using JobListSink = WatchSink<v1::WatchJobsResponse>;

// The last change of every job that changed since this process loaded, in commit order; of the last
// `jobs_max` jobs.
class JobChanges {
 public:
  // `epoch` tells positions of this process from those of others.
  JobChanges(std::string epoch, int64_t jobs_max) : epoch_(std::move(epoch)), jobs_max_(jobs_max) {}

  void Changed(const std::string& job, int64_t position);
  const absl::btree_map<int64_t, std::string>& by_position() const { return by_position_; }
  const std::string& epoch() const { return epoch_; }
  // Changes after it are kept.
  int64_t begin() const { return begin_; }

 private:
  const std::string epoch_;
  const int64_t jobs_max_;
  int64_t begin_ = 0;
  absl::btree_map<int64_t, std::string> by_position_;
  absl::btree_map<std::string, int64_t> positions_;
};

// One stream.
class Watch {
 public:
  enum class Pumped { kIdle, kSent, kEnded };
  virtual ~Watch() = default;
  // Sends what comes next, if there is something. Called when the response before was taken.
  virtual Pumped Pump(const CommittedView& view, const JobChanges& changes) = 0;
  // True if the watcher, whose last response is not taken yet, should be cut off.
  virtual bool IsTooFarBehind(const CommittedView& view) const = 0;
  virtual void End(absl::Status status) = 0;
  // Whether a change of `job` concerns it.
  virtual bool Concerns(const std::string& job) const = 0;
};

class Watches {
 public:
  struct Options {
    int64_t watches_max = 1000;
    int64_t lag_max = 10'000;
    // Jobs whose last change WatchJobs can go on from.
    int64_t changes_max = 100'000;
  };

  Watches(const Options& options, std::string epoch, SchedulerMetrics& metrics);

  // Both begin at the next Pump, which also finds what is wrong with the request (it is
  // well-formed). At the bound the stream ends with ResourceExhausted. `id` is the caller's.
  void WatchJob(int64_t id, const v1::WatchJobRequest& request, std::unique_ptr<JobSink> sink);
  void WatchJobs(int64_t id, const v1::WatchJobsRequest& request,
                 std::unique_ptr<JobListSink> sink);

  // The client took the last response; Pump should follow.
  void Taken(int64_t id);
  // The client is gone.
  void Drop(int64_t id);

  // An event of `job` with this position was committed.
  void Changed(const std::string& job, int64_t position);
  void Pump(const CommittedView& view);
  // Ends all, and every later one at once.
  void EndAll(const absl::Status& status);

  int64_t size() const { return static_cast<int64_t>(open_.size()); }

 private:
  struct Open {
    std::unique_ptr<Watch> watch;
    bool in_flight = false;
  };

  void Add(int64_t id, std::unique_ptr<Watch> watch);
  void Remove(int64_t id);

  const Options options_;
  SchedulerMetrics& metrics_;
  JobChanges changes_;
  absl::btree_map<int64_t, Open> open_;
  absl::btree_set<int64_t> ready_;
  absl::Status ended_;
};

// ---- The two kinds ----

std::unique_ptr<Watch> MakeJobWatch(const v1::WatchJobRequest& request, int64_t lag_max,
                                    std::unique_ptr<JobSink> sink);
std::unique_ptr<Watch> MakeJobListWatch(const v1::WatchJobsRequest& request,
                                        std::unique_ptr<JobListSink> sink);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_WATCH_H_

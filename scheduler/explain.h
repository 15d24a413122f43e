// Explain: why a job waits, and where it stands.
//
// Computed for an answer, never stored: it changes with every worker and every other job. A reason
// code for programs and the same as a sentence with the numbers that make it true. Pure.

#ifndef DELTAWORKS_SCHEDULER_EXPLAIN_H_
#define DELTAWORKS_SCHEDULER_EXPLAIN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/fleet.h"
#include "scheduler/job_shape.h"
#include "scheduler/options.h"
#include "scheduler/pass_speed.h"
#include "scheduler/state.h"
#include "scheduler/worker_index.h"

namespace deltaworks::scheduler {

// A view of the queue at one moment, for any number of jobs: the workers are looked at once for
// each shape. Everything passed in must outlive it and stay as it is. Thread-compatible.
class Explainer {
 public:
  Explainer(const State& state, const Fleet& fleet, const Options& options, absl::Time now)
      : state_(state), fleet_(fleet), options_(options), now_(now) {}

  // What estimates need; without it ShowOne says no more than Show.
  struct Sources {
    const WorkerIndex& workers;
    const Speeds& speeds;
  };

  // What of all workers the sentences need, for jobs of one shape.
  struct Survey {
    v1::JobReason furthest = v1::NO_WORKER_ONLINE;
    int64_t seen = 0;
    int64_t online = 0;
    // Online and taking no jobs.
    int64_t draining = 0;
    // Online workers that would do, were they free.
    int64_t suitable = 0;
    int64_t memory_bytes_max = 0;
    absl::btree_set<std::string> classes;
  };

  // The job as its owner sees it: as stored, with status.waiting if it is QUEUED.
  v1::Job Show(const JobRecord& record);
  // The same, with estimates and hints: for an answer about one job.
  v1::Job ShowOne(const JobRecord& record, const Sources* sources);

  // Of a QUEUED job.
  v1::Waiting Explain(const JobRecord& record);

 private:
  void SetPosition(const JobRecord& record, v1::Waiting* waiting);
  const Survey& LookAt(const JobShape& shape);
  void ExplainGang(const JobRecord& record, v1::Waiting* waiting) const;
  void ExplainRoom(const JobRecord& record, v1::Waiting* waiting) const;

  const State& state_;
  const Fleet& fleet_;
  const Options& options_;
  const absl::Time now_;
  std::vector<const QueueKey*> first_;  // Of the queue, in order.
  std::map<JobShape, Survey> surveys_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_EXPLAIN_H_

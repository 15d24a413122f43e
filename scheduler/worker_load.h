// WorkerLoad: what the attempts on one worker take together, and whether one more job may join.
//
// Jobs that train together on one base share each pass, so every one of them becomes slower and
// all of them together faster. A pass over T tokens takes about h + T, where h, the device's
// overhead in tokens, stands for reading the weights: whoever joins saves h of its own passes.
// So a job joins if
//   - memory holds them all (v1::MemoryNeed),
//   - it saves at least cohort_gain_min: (h + t) / t, with t its own tokens, and
//   - nobody becomes slower than cohort_slowdown_max times: (h + all tokens) / (h + fewest tokens).
//
// Plain data and pure functions.

#ifndef DELTAWORKS_SCHEDULER_WORKER_LOAD_H_
#define DELTAWORKS_SCHEDULER_WORKER_LOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/job_shape.h"
#include "scheduler/options.h"

namespace deltaworks::scheduler {

class WorkerLoad {
 public:
  struct Piece {
    std::string job;
    JobShape shape;
    v1::PriorityClass priority_class = v1::NORMAL;
    absl::Time granted;
    // No other may be on the worker: as granted.
    bool alone = false;
    // It was told to leave, or stops.
    bool leaving = false;
    // Until its end, in FLOPs; for comparing workers, not a promise.
    double remaining_flops = 0;
  };

  // By job, which must not be there.
  void Add(Piece piece);
  // False if it is not there.
  bool Remove(absl::string_view job);

  // By job.
  const std::vector<Piece>& pieces() const { return pieces_; }
  int64_t attempts() const { return static_cast<int64_t>(pieces_.size()); }
  bool empty() const { return pieces_.empty(); }
  // Of all; empty if there are none, or they share with nobody.
  const std::string& cohort() const { return cohort_; }
  // Of a common pass, and of the smallest of its jobs.
  int64_t pass_tokens() const { return pass_tokens_; }
  int64_t pass_tokens_min() const { return pass_tokens_min_; }
  double remaining_flops() const { return remaining_flops_; }
  // Of those that stay; PriorityClass_MAX + 1 if none does.
  int lowest_class() const { return lowest_class_; }

  // Whether one more may ever come beside those that are here.
  bool Full(const Options& options) const {
    return !empty() && (cohort_.empty() || attempts() >= options.attempts_per_worker);
  }

  // Whether `shape` may join (true for an empty load, whose memory the caller has checked).
  bool Admits(const JobShape& shape, int64_t memory_bytes, double overhead_tokens,
              const Options& options) const;

 private:
  void Sum();

  std::vector<Piece> pieces_;
  std::string cohort_;
  int64_t pass_tokens_ = 0;
  int64_t pass_tokens_min_ = 0;
  double remaining_flops_ = 0;
  int lowest_class_ = v1::PriorityClass_MAX + 1;
  MemoryParts memory_;
};

// How many times longer a pass takes with `together` tokens than with `alone`.
double SlowDown(int64_t together, int64_t alone, double overhead_tokens);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_WORKER_LOAD_H_

#include "scheduler/start_bounds.h"

#include "scheduler/job_record.h"

namespace deltaworks::scheduler {

std::vector<std::string> StartBounds::Next(const State& state, const Estimator& estimator,
                                           absl::Time now) {
  std::vector<std::string> jobs;
  int looked_at = 0;
  const auto& shapes = state.queue().shapes();
  for (auto at = shapes.lower_bound(shape_); at != shapes.end(); ++at) {
    const auto& [shape, queue] = *at;
    if (shape != shape_) {
      shape_ = shape;
      after_ = QueueKey();
    }
    const int64_t workers = estimator.WorkersFor(shape, now);
    auto key = queue.keys.upper_bound(after_);
    if (workers == 0) key = queue.keys.end();  // Time without a worker does not count.
    for (; key != queue.keys.end(); ++key) {
      if (looked_at++ == kLookedAtMax || jobs.size() == kNamedMax) return jobs;
      after_ = *key;
      const v1::JobStatus& status = state.FindJob(key->job)->job().status();
      if (!status.has_start_bound() || workers < status.start_bound().workers()) {
        jobs.push_back(key->job);
      }
    }
    // Past this shape.
    after_ = {.rank = absl::InfiniteFuture(), .job = ""};
  }
  shape_ = JobShape();
  after_ = QueueKey();
  return jobs;
}

}  // namespace deltaworks::scheduler

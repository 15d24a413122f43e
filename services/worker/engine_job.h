// JobEngine::Job: one attempt in the engine. For the engine's own sources.

#ifndef DELTAWORKS_SERVICES_WORKER_ENGINE_JOB_H_
#define DELTAWORKS_SERVICES_WORKER_ENGINE_JOB_H_

#include <atomic>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "services/worker/job_engine.h"

namespace deltaworks::services {

struct JobEngine::Job {
  explicit Job(AttemptKey attempt_key) : key(std::move(attempt_key)) {}

  bool finished() const { return !probe_digest.empty(); }
  // Its last step is done; the evaluation after it may be under way.
  bool did_last_step() const { return run->step() == run->total_steps(); }
  // Takes part in the next pass.
  bool trains() const {
    return run != nullptr && run->active() && !(parked && run->at_step_boundary());
  }

  const AttemptKey key;
  const std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);

  std::unique_ptr<PreparedJob> prepared;  // Null while it is being prepared.
  TrainingBase* base = nullptr;
  MemoryPlan plan;
  std::unique_ptr<trainer::TrainingRun> run;

  // Ordered, for the next step's end.
  bool parked = false;
  bool leaves = false;
  bool checkpoint_wanted = false;

  int64_t checkpoint_step = 0;  // Of the last checkpoint made, or started from.
  v1::MetricPoint last_point;   // Without time and speed.
  // Speed is that of steps, without the evaluations between them.
  absl::Duration step_began_at;
  absl::Duration step_ended_at;
  int64_t steps_seen = 0;
  absl::Duration device_time;  // Its shares of passes.
  std::string probe_digest;    // Once finished.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_ENGINE_JOB_H_

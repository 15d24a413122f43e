// JobEngine::Job: one attempt in the engine. For the engine's own sources.

#ifndef DELTAWORKS_SERVICES_WORKER_ENGINE_JOB_H_
#define DELTAWORKS_SERVICES_WORKER_ENGINE_JOB_H_

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
  GangMember* gang() const { return prepared == nullptr ? nullptr : prepared->gang.get(); }
  // Of a gang, rank 0 alone checkpoints and has the result.
  bool follows() const { return gang() != nullptr && gang()->rank() != 0; }
  // Ordered; a gang leaves once all its members know, at the same step's end.
  bool may_leave() const { return gang() == nullptr ? leaves : run->asked_to_stop(); }
  // Takes part in the next pass.
  bool trains() const {
    return run != nullptr && run->active() && !(parked && run->at_step_boundary());
  }

  const AttemptKey key;
  const std::shared_ptr<Cancellation> cancellation = std::make_shared<Cancellation>();

  // Null while it is being prepared. Its gang outlives the run.
  std::unique_ptr<PreparedJob> prepared;
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

// JobEngine: the trainer of a worker: prepares jobs, trains those on one base together, takes
// checkpoints, makes results. A Trainer that computes in RunOnce(), on the caller's thread.
//
//   Start -> preparing -> training -> finished (kept for Verify, until Forget or Stop)
//                            |  ^
//                       parked, at a step's end
//
// Commands take effect between passes: Stop at once, Park, Leave and TakeCheckpoint at the run's
// own step's end. A job that is killed and started again from a checkpoint ends with the same
// bytes.
//
// A member of a gang trains as the others do: it leaves at the step's end that all agree on, and
// only rank 0 checkpoints and finishes; the others leave after their last step. While it waits for
// them RunOnce() does not return; Interrupt() ends that.
//
// What does not fit in `memory_bytes` fails with OUT_OF_MEMORY and the plan: the user's fault only
// if it would not fit alone. Thread-compatible, but for what JobPreparer calls back, and
// Interrupt.

#ifndef DELTAWORKS_SERVICES_WORKER_JOB_ENGINE_H_
#define DELTAWORKS_SERVICES_WORKER_JOB_ENGINE_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/base/clock.h"
#include "services/worker/job_preparation.h"
#include "services/worker/memory_plan.h"
#include "services/worker/metrics.h"
#include "services/worker/seams.h"
#include "services/worker/training_base.h"
#include "trainer/backend/backend.h"
#include "trainer/base/mutex.h"
#include "trainer/comm/collective_device.h"
#include "trainer/train/cohort.h"
#include "trainer/train/training_run.h"

namespace deltaworks::services {

class JobEngine final : public Trainer {
 public:
  struct Options {
    // Makes the device's backend for kF32 or kBF16; called when a first job needs it.
    std::function<absl::StatusOr<std::unique_ptr<trainer::Backend>>(trainer::DType)> new_backend;
    // The device as the gang's gradients leave it; empty if its memory is the host's.
    std::function<absl::StatusOr<std::unique_ptr<trainer::CollectiveDevice>>()> new_collective;
    int64_t memory_bytes = 0;
    // Runs a function on the engine's thread, before the next pass; for what the preparer calls
    // back.
    std::function<void(absl::AnyInvocable<void()>)> post;
  };

  // All must outlive it. Events are told from within commands and RunOnce().
  JobEngine(Options options, JobPreparer& preparer, TrainerEvents& events, const Clock& clock,
            WorkerMetrics& metrics);
  ~JobEngine() override;

  void Start(const AttemptKey& key, const v1::TrainTask& task) override;
  void TakeCheckpoint(const AttemptKey& key) override;
  void Park(const AttemptKey& key) override;
  void Resume(const AttemptKey& key) override;
  void Leave(const AttemptKey& key) override;
  void Stop(const AttemptKey& key) override;
  void Verify(const AttemptKey& key, std::string adapter_model,
              std::string adapter_config) override;
  void Forget(const AttemptKey& key) override;

  // What the attempt (or all of them) waits for, now or later, ends with an error: Stop() follows.
  // From any thread, while the engine lives.
  void Interrupt(const AttemptKey& key);
  void InterruptAll();

  // One pass of every base that has runs. False if there was nothing to do.
  bool RunOnce();

 private:
  struct Job;

  Job* Find(const AttemptKey& key);
  static Job& JobOf(const std::vector<Job*>& jobs, const trainer::TrainingRun* run);
  void Remove(const AttemptKey& key);
  void FailJob(Job& job, v1::Failure failure);

  void OnPrepared(const AttemptKey& key, Preparation preparation);
  // Loads the base, makes the run, restores its checkpoint. False: failed, and the job is gone.
  bool Join(Job& job);
  bool MakeRun(Job& job);
  absl::Status JoinGang(const Job& job);
  bool Restore(Job& job);
  // The plan fits beside what is there.
  // Of all jobs that train, and of `joining`, or nullptr. Jobs of one base share their passes.
  int64_t MemoryNeeded(const Job* joining) const;
  bool CheckMemory(Job& job);
  absl::StatusOr<TrainingBase*> BaseOf(const PreparedJob& prepared);
  void DropUnusedBases();

  // False after a device fault: of other bases' jobs, too, some may be gone.
  bool PassOf(TrainingBase& base, const std::vector<Job*>& jobs);
  void TellPass(TrainingBase& base, const std::vector<Job*>& jobs, const trainer::PassResult& pass,
                absl::Duration took);
  void NoRoomForPass(const std::vector<Job*>& jobs, const absl::Status& status);
  void DeviceFailed(const trainer::Backend& backend, const absl::Status& status);
  void TellProgress(Job& job, const trainer::StepMetrics& metrics);
  // What ends a run after a pass: it diverged, or a number that came out is none.
  absl::Status Health(const Job& job) const;
  // What waited for the run's step to end.
  void AtStepEnd(Job& job);
  void Finish(Job& job);
  v1::Failure RunFailure(const Job& job, const absl::Status& health) const;
  bool CheckpointDue(const Job& job) const;
  // The adapter as it is, as the two files of a PEFT folder, in `files`; its digest.
  std::string AppendAdapter(const Job& job, std::vector<Artifact::File>* files) const;
  std::shared_ptr<const Artifact> CheckpointIfNew(Job& job);
  v1::Manifest ManifestOf(const Job& job, v1::Manifest::Kind kind) const;

  const Options options_;
  JobPreparer& preparer_;
  TrainerEvents& events_;
  const Clock& clock_;
  WorkerMetrics& metrics_;
  std::map<trainer::DType, std::unique_ptr<trainer::Backend>> backends_;
  // By folder and compute type.
  std::map<std::pair<std::string, trainer::DType>, std::unique_ptr<TrainingBase>> bases_;
  // In the order in which they were started.
  std::vector<std::unique_ptr<Job>> jobs_;
  Mutex mutex_;
  // By attempt id.
  std::map<std::string, std::shared_ptr<Cancellation>> cancellations_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_JOB_ENGINE_H_

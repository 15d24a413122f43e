// The doors of WorkerCore to the world, besides Clock, EventLoop and ReportChannel: the Trainer,
// which computes, and the Publisher, which moves bytes to the store.
//
//                    Start, TakeCheckpoint, Park, ...
//   WorkerCore  ---------------------------------------->  Trainer    TrainerThread, JobEngine
//        ^  |   <----------------------------------------
//        |  |        TrainerEvents                                     (tests: fakes)
//        |  +------------------------------------------->  Publisher  StorePublisher
//        +-------------------------------- done ---------
//
// Commands return at once; events and `done` come later, on the core's event loop. An attempt is
// named by its key in both directions.

#ifndef DELTAWORKS_SERVICES_WORKER_SEAMS_H_
#define DELTAWORKS_SERVICES_WORKER_SEAMS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/worker/artifact.h"

namespace deltaworks::services {

struct AttemptKey {
  std::string job;
  int64_t lease_epoch = 0;
  std::string attempt_id;

  bool operator==(const AttemptKey&) const = default;
};

// Failure.code of an attempt whose gang broke: the fault is another member's, or of the way there.
inline constexpr char kGangBroke[] = "GANG_BROKE";

// What comes out of a run that did all its steps.
struct TrainedResult {
  std::shared_ptr<const Artifact> artifact;  // Of kind ADAPTER.
  // At the last step; nullptr if that step had one already, asked for while its evaluation ran.
  std::shared_ptr<const Artifact> checkpoint;
  std::string adapter_digest;
  int64_t step = 0;
  double loss = 0;
};

// How long a pass over a base took.
struct PassMeasure {
  std::string base_manifest_digest;
  v1::NumberType compute_type = v1::NUMBER_TYPE_UNSPECIFIED;
  int64_t tokens = 0;  // Of all jobs.
  absl::Duration duration;
};

struct PassReport {
  struct DeviceTime {
    AttemptKey key;
    absl::Duration so_far;  // Its shares of all passes since it was started.
  };
  std::vector<DeviceTime> device_times;  // Of the jobs that took part.
  // Unless it was unlike others: the base's first, which reads the weights from disk, or one with
  // jobs that evaluate.
  std::optional<PassMeasure> measure;
};

class TrainerEvents {
 public:
  virtual ~TrainerEvents() = default;
  // The first pass is about to begin. `step` is that of the start checkpoint.
  virtual void OnTraining(const AttemptKey& key, int64_t step) = 0;
  // Before whatever else the pass led to.
  virtual void OnPass(const PassReport& /*pass*/) {}
  // The numbers of a step became final.
  virtual void OnProgress(const AttemptKey& key, v1::MetricPoint point) = 0;
  virtual void OnLog(const AttemptKey& key, v1::JobEvent::Level level, std::string message) = 0;
  // One that was asked for, or due by save_steps; that of the last step comes with the result.
  virtual void OnCheckpoint(const AttemptKey& key, std::shared_ptr<const Artifact> artifact) = 0;
  // After Leave or Stop; nothing follows. `checkpoint`: after Leave, if there were steps since the
  // last one.
  virtual void OnLeft(const AttemptKey& key, std::shared_ptr<const Artifact> checkpoint) = 0;
  // Nothing follows.
  virtual void OnFailed(const AttemptKey& key, v1::Failure failure) = 0;
  // The run is kept until Forget, so that Verify can compare.
  virtual void OnFinished(const AttemptKey& key, TrainedResult result) = 0;
  // DataLoss: the adapter read back answers otherwise than the one in memory, or cannot be loaded.
  virtual void OnVerified(const AttemptKey& key, absl::Status status) = 0;
};

class Trainer {
 public:
  virtual ~Trainer() = default;
  virtual void Start(const AttemptKey& key, const v1::TrainTask& task) = 0;
  // At the next step's end; nothing comes if there was no step since the last one.
  virtual void TakeCheckpoint(const AttemptKey& key) = 0;
  // Takes no part in passes from the next step's end on; the state stays in memory.
  virtual void Park(const AttemptKey& key) = 0;
  virtual void Resume(const AttemptKey& key) = 0;
  // At the next step's end. A finished run is not affected.
  virtual void Leave(const AttemptKey& key) = 0;
  // At the pass's end; drops everything, also of a finished run.
  virtual void Stop(const AttemptKey& key) = 0;
  // Loads the adapter's bytes, as read back from the store, on the base of the finished run.
  virtual void Verify(const AttemptKey& key, std::string adapter_model,
                      std::string adapter_config) = 0;
  // Drops a finished run; no event.
  virtual void Forget(const AttemptKey& key) = 0;
};

class Publisher {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;
  struct AdapterBytes {
    std::string adapter_model;
    std::string adapter_config;
  };
  using ReadDone = absl::AnyInvocable<void(absl::StatusOr<AdapterBytes>)>;

  virtual ~Publisher() = default;
  // Uploads what the store lacks of the artifact, then pins its manifest with the job as owner.
  // ResourceExhausted: a disk is full. May be repeated.
  virtual void Publish(const std::string& job, std::shared_ptr<const Artifact> artifact,
                       Done done) = 0;
  // The files of a published adapter, read from the store by digest. DataLoss: what the store gave
  // is something else; it has been told.
  virtual void ReadBack(const std::string& job, std::shared_ptr<const Artifact> artifact,
                        ReadDone done) = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_SEAMS_H_

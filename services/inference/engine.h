// Engine: the one thread that computes. It owns a backend for each number type and turns between
// the models that have work:
//
//   Generate   streams of one set of weights share a batch: those of a base, each with its own
//              adapter or none; those of a merged model. Streams join and leave between tokens.
//   Score      one pass of at most score_rows_max rows, of one job at a time, between the steps of
//              the streams
//
//        Submit ---> queue (bounded) ---> a place and rows of the KV pool ---> steps ---> End
//                                                                     Scores --passes--^
//
// A job's numbers depend on its own request only: rows of a batch are independent
// (trainer/backend/backend.h). Jobs are admitted in order; one that waits for room in the KV pool
// of its base holds up the later ones on that base only.
//
// A stream reserves pages of rows for its prompt and all tokens it may generate, so it never runs
// out of them. The pool of a base takes kv_tokens_max rows, made whole pages: memory_bytes =
// kv_tokens_max * 2 * layers * kv_heads * head_dim * (2 or 4); 755 MB for SmolLM2-135M in bf16 by
// default, committed as it is used, from the lowest row.
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_INFERENCE_ENGINE_H_
#define DELTAWORKS_SERVICES_INFERENCE_ENGINE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/base/clock.h"
#include "services/inference/engine_job.h"
#include "services/inference/metrics.h"
#include "trainer/backend/backend.h"
#include "trainer/base/mutex.h"
#include "trainer/model/config.h"

namespace deltaworks::services {

class DeviceModel;
class TextStream;

class Engine {
 public:
  struct Options {
    int64_t streams_max = 16;       // Generate calls that have a place.
    int64_t queue_max = 64;         // Jobs beside those: all at once are streams_max + queue_max.
    int64_t context_max = 8192;     // Tokens of a prompt and its continuation.
    int64_t kv_tokens_max = 32768;  // Of all streams of one base.
    int64_t prompt_rows_max = 512;  // Prompt tokens read between two steps of the others.
    int64_t score_rows_max = 1024;  // Of a pass of scoring; a longer example has one of its own.
  };
  // Makes the backend of a number type; called on the engine's thread.
  using BackendFactory =
      std::function<absl::StatusOr<std::unique_ptr<trainer::Backend>>(trainer::DType)>;

  // `metrics` and `clock` must outlive it.
  Engine(const Options& options, BackendFactory make_backend, InferenceMetrics& metrics,
         const Clock& clock);
  // Ends every job with Unavailable. Callers that wait must be gone before their jobs are.
  ~Engine();

  // The longest prompt with its continuation, and the longest example, on a base of this config.
  int64_t ContextOf(const trainer::ModelConfig& config) const;

  // ResourceExhausted if the queue is full; Unavailable once it drains. Otherwise the job will end:
  // with OK, Cancelled, DeadlineExceeded, ResourceExhausted (the device has no room), Unavailable
  // (the service stops) or Internal (the device failed).
  absl::Status Submit(std::shared_ptr<GenerationJob> job);
  absl::Status Submit(std::shared_ptr<ScoreJob> job);

  // Takes no more jobs, waits until those there have ended, and once `deadline` has passed ends the
  // rest with Unavailable.
  void Drain(absl::Duration deadline);

  // Jobs that have not ended.
  int64_t jobs() const;

 private:
  // Of the engine's thread.
  struct Stream {
    std::shared_ptr<GenerationJob> job;
    DeviceModel* model = nullptr;  // Of the job's model.
    int64_t number = 0;            // In its generator.
    std::unique_ptr<TextStream> text;
  };

  template <typename Job>
  absl::Status Enqueue(std::shared_ptr<Job> job, std::deque<std::shared_ptr<Job>>& jobs)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  // Waits for work. False: stop.
  bool TakeJobs();
  void EndUnwanted();
  void Admit();
  // False if it has to wait for room.
  bool AdmitOne(const std::shared_ptr<GenerationJob>& job);
  void StepStreams();
  void StepModel(DeviceModel& model);
  // True if the stream goes on.
  bool Take(Stream& stream, int32_t token, bool stopped, bool full);
  void ScoreOnce();
  absl::Status ScorePass(ScoreJob& job);
  void EndStream(Stream& stream, absl::Status status);
  void EndJob(EngineJob& job, absl::Status status);
  void EndAll(const absl::Status& status);
  void ReportLengths() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::StatusOr<trainer::Backend*> BackendOf(trainer::DType form);
  // The model on its device, made ready if it is not.
  absl::StatusOr<DeviceModel*> Install(const ModelHandle& model);
  absl::StatusOr<DeviceModel*> InstallBase(LoadedBase& base);

  const Options options_;
  const BackendFactory make_backend_;
  InferenceMetrics& metrics_;
  const Clock& clock_;

  mutable Mutex mutex_;
  CondVar changed_;  // Work for the engine.
  CondVar idle_;     // No jobs are left.
  std::deque<std::shared_ptr<GenerationJob>> new_generations_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<ScoreJob>> new_scores_ ABSL_GUARDED_BY(mutex_);
  int64_t jobs_ ABSL_GUARDED_BY(mutex_) = 0;  // Not ended.
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;  // End everything.
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Of the engine's thread.
  std::map<trainer::DType, std::unique_ptr<trainer::Backend>> backends_;
  std::deque<std::shared_ptr<GenerationJob>> queue_;
  std::deque<std::shared_ptr<ScoreJob>> scores_;
  std::vector<Stream> streams_;

  std::thread thread_;  // Last: it uses what is above.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_ENGINE_H_

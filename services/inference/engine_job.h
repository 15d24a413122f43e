// What callers give to the engine and wait for: a text to continue, or examples to score.
//
// A job is shared by the engine's thread, which fills it, and the one that waits. It holds its
// model until it has ended, so that this is not dropped meanwhile, nor kept once the answer is out.
// Thread-safe where not said otherwise.

#ifndef DELTAWORKS_SERVICES_INFERENCE_ENGINE_JOB_H_
#define DELTAWORKS_SERVICES_INFERENCE_ENGINE_JOB_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "services/inference/loaded_model.h"
#include "trainer/base/mutex.h"
#include "trainer/data/example.h"
#include "trainer/generate/sampler.h"

namespace deltaworks::services {

// Times of one job, on Clock::Monotonic().
struct JobTimes {
  absl::Duration submitted;
  absl::Duration install = absl::ZeroDuration();  // Making the model ready on the device.
  absl::Duration admitted;
  absl::Duration first_token;
  absl::Duration last_token;
};

class EngineJob {
 public:
  // `deadline`: on Clock::Monotonic(); InfiniteDuration() for none.
  EngineJob(ModelHandle model, absl::Duration deadline)
      : model_(std::move(model)), deadline_(deadline) {}
  virtual ~EngineJob() = default;

  // Of the engine's thread once the job is submitted; empty once it has ended.
  const ModelHandle& model() const { return model_; }
  absl::Duration deadline() const { return deadline_; }

  // The engine stops working on it within one token (or one pass of scoring).
  void Cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

  // ---- By the engine ----
  // Lets go of the model; then the last thing that happens, once.
  void End(absl::Status status);

  JobTimes times;  // Of the engine's thread until the job has ended.

 protected:
  Mutex mutex_;
  CondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);

 private:
  ModelHandle model_;
  const absl::Duration deadline_;
  std::atomic<bool> cancelled_ = false;
};

struct GenerationTask {
  std::vector<int32_t> prompt;  // Not empty, shorter than the context.
  trainer::SamplingConfig sampling;
  int64_t max_new_tokens = 256;
  std::vector<std::string> stop;
};

class GenerationJob final : public EngineJob {
 public:
  enum class Finish { kNone, kStop, kLength };

  // What came since the last time.
  struct Progress {
    std::string text;
    std::vector<int32_t> token_ids;
    bool ended = false;
    absl::Status status;            // Once ended.
    Finish finish = Finish::kNone;  // Once ended well.
  };

  GenerationJob(ModelHandle model, GenerationTask task, absl::Duration deadline)
      : EngineJob(std::move(model), deadline), task(std::move(task)) {}

  // Returns as soon as there is something, or with nothing after `timeout`.
  Progress Wait(absl::Duration timeout);

  // ---- By the engine ----
  void Append(absl::string_view text, int32_t token_id);
  void Finished(Finish finish, absl::string_view last_text);

  const GenerationTask task;
  int64_t generated = 0;  // Of the engine's thread until the job has ended.

 private:
  Progress progress_ ABSL_GUARDED_BY(mutex_);
};

class ScoreJob final : public EngineJob {
 public:
  ScoreJob(ModelHandle model, std::vector<trainer::Example> examples, absl::Duration deadline)
      : EngineJob(std::move(model), deadline),
        examples(std::move(examples)),
        negative_log_likelihoods(this->examples.size(), 0) {}

  // True once it has ended; false after `timeout`.
  bool Wait(absl::Duration timeout);
  // Once ended.
  absl::Status status();

  const std::vector<trainer::Example> examples;
  // Of the engine's thread until the job has ended.
  size_t next_example = 0;
  std::vector<double> negative_log_likelihoods;  // By example, in nats.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_INFERENCE_ENGINE_JOB_H_

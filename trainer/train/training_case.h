// What tests of whole trainings share: jobs that differ in everything that may differ, and Machine,
// the part of a worker process that trains them.

#ifndef DELTAWORKS_TRAINER_TRAIN_TRAINING_CASE_H_
#define DELTAWORKS_TRAINER_TRAIN_TRAINING_CASE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "glog/logging.h"
#include "trainer/backend/backend.h"
#include "trainer/base/sha256.h"
#include "trainer/lora/peft_format.h"
#include "trainer/testing/random_model.h"
#include "trainer/train/cohort.h"

namespace deltaworks::trainer {

// Examples of shortest to longest tokens below 50.
inline std::shared_ptr<const TrainingData> RandomData(uint64_t seed, int train, int validation,
                                                      int shortest = 3, int longest = 40) {
  std::mt19937_64 random(seed);
  const auto example = [&] {
    Example result;
    const int tokens = shortest + static_cast<int>(random() % (longest - shortest + 1));
    for (int i = 0; i < tokens; ++i) {
      result.ids.push_back(static_cast<int32_t>(random() % 50));
      result.is_label.push_back(i > tokens / 3);
    }
    return result;
  };
  auto data = std::make_shared<TrainingData>();
  for (int i = 0; i < train; ++i) data->train.push_back(example());
  for (int i = 0; i < validation; ++i) data->validation.push_back(example());
  return data;
}

struct TrainingJob {
  TrainingConfig config;
  std::shared_ptr<const TrainingData> data;
};

inline std::vector<TrainingJob> Jobs(int count) {
  std::vector<TrainingJob> jobs;
  for (int i = 0; i < count; ++i) {
    TrainingJob job;
    job.data = RandomData(100 + i, 20 + 7 * i, i % 2 == 0 ? 5 : 0);
    job.config.lora.rank = std::vector<int>{1, 4, 3, 8, 17}[i % 5];
    job.config.lora.lora_dropout = i % 3 == 0 ? 0.1 : 0;
    if (i % 4 == 1) job.config.lora.target_modules = {"q_proj", "v_proj"};
    if (i % 4 == 2)
      job.config.lora.target_modules = {"down_proj", "model.layers.1.self_attn.k_proj"};
    job.config.learning_rate = 1e-2 / (i + 1);
    job.config.per_device_train_batch_size = 2 + i % 5;
    job.config.max_steps = 6 + i % 4;
    job.config.eval_steps = 3;
    job.config.seed = 1000 + i;
    job.config.micro_batch_tokens = 40 + 60 * (i % 3);
    jobs.push_back(std::move(job));
  }
  return jobs;
}

// The digest that users see.
inline std::string AdapterDigest(const TrainingRun& run) {
  return Sha256Digest(SerializePeft(run.config().lora, run.adapter().tensors(),
                                    run.adapter().ReadParameters(), "base", "sha256:base")
                          .adapter_model);
}

struct TrainingResult {
  std::string digest;
  std::map<int64_t, StepMetrics> metrics;  // By step.

  bool operator==(const TrainingResult&) const = default;
};

// A backend, a model on it, and its cohort. `weights` must outlive it.
class Machine {
 public:
  Machine(std::unique_ptr<Backend> backend, const RandomModel& weights, int64_t positions = 64)
      : backend_(std::move(backend)) {
    auto model =
        Llama::Create(*backend_, weights.config(), weights.tensors(), {.positions_max = positions});
    CHECK(model.ok()) << model.status();
    model_ = *std::move(model);
    cohort_ = std::make_unique<Cohort>(*model_);
  }

  std::unique_ptr<TrainingRun> NewRun(const TrainingJob& job) {
    auto run = TrainingRun::Create(*model_, job.config, job.data, {"sha256:base", "sha256:data"});
    CHECK(run.ok()) << run.status();
    return *std::move(run);
  }

  std::vector<RunMetrics> Pass(const std::vector<TrainingRun*>& runs) {
    PassResult result = cohort_->Pass(runs);
    CHECK(result.status.ok()) << result.status;
    return std::move(result.metrics);
  }

  // All jobs from their beginning to the last one's end. A run that diverged has no digest.
  std::vector<TrainingResult> Train(const std::vector<TrainingJob>& jobs) {
    std::vector<std::unique_ptr<TrainingRun>> runs;
    std::vector<TrainingRun*> active;
    std::map<const TrainingRun*, size_t> index;
    for (const TrainingJob& job : jobs) {
      runs.push_back(NewRun(job));
      index[runs.back().get()] = runs.size() - 1;
      active.push_back(runs.back().get());
    }
    std::vector<TrainingResult> results(jobs.size());
    while (!active.empty()) {
      for (const RunMetrics& step : Pass(active)) {
        results[index.at(step.run)].metrics[step.metrics.step] = step.metrics;
      }
      std::erase_if(active, [](const TrainingRun* run) { return !run->active(); });
    }
    for (size_t i = 0; i < runs.size(); ++i) {
      if (runs[i]->status().ok()) results[i].digest = AdapterDigest(*runs[i]);
    }
    return results;
  }
  TrainingResult Alone(const TrainingJob& job) { return Train({job})[0]; }

  const Llama& model() const { return *model_; }
  const Backend& backend() const { return *backend_; }
  Cohort& cohort() { return *cohort_; }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Llama> model_;
  std::unique_ptr<Cohort> cohort_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TRAIN_TRAINING_CASE_H_

// The worker's engine with one job: when its first step is done, and how much memory the job takes
// at most, beside the plan for it; one line of JSON for tests/bench/start.
//
// All of a worker that computes is here, JobEngine; what is left out is its network: the data comes
// from a file, and what goes to the store is kept as long as the plan says that it may be, two
// checkpoints, one after each step. At the end the result is tried as it would be when read back.

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/functional/any_invocable.h"
#include "glog/logging.h"
#include "services/base/clock.h"
#include "services/base/metrics.h"
#include "services/worker/job_engine.h"
#include "services/worker/memory_plan.h"
#include "services/worker/metrics.h"
#include "tests/bench/token_data.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/base/json.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/weights.h"

namespace deltaworks::services {
namespace {

struct Settings {
  std::string model;
  std::string data;
  int64_t rank = 16;
  int64_t batch = 8;
  int64_t steps = 4;
  int64_t micro_batch_tokens = 1024;
  int threads = 2;
};

// Seconds on CLOCK_MONOTONIC, as Python's time.monotonic() has them.
double Monotonic() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Benchmark final : private TrainerEvents, private JobPreparer {
 public:
  explicit Benchmark(const Settings& settings)
      : settings_(settings),
        engine_(
            {.new_backend =
                 [this](trainer::DType type) {
                   return trainer::NewCpuBackend(
                       {.compute_type = type, .threads = settings_.threads});
                 },
             .memory_bytes = int64_t{1} << 40,
             .post =
                 [this](absl::AnyInvocable<void()> task) { posted_.push_back(std::move(task)); }},
            *this, *this, RealClock(), metrics_) {}

  void Run() {
    v1::TrainTask task;
    task.mutable_spec()->mutable_arguments()->set_save_steps(1);
    engine_.Start(key_, task);
    bool working = true;
    while (working) {
      while (!posted_.empty()) {
        auto next = std::move(posted_.front());
        posted_.pop_front();
        next();
      }
      pass_began_ = Monotonic();
      working = engine_.RunOnce();
    }
    CHECK(result_.artifact != nullptr) << "the job has no result";
    engine_.Verify(key_, BytesOf(trainer::kAdapterModelFile), BytesOf(trainer::kAdapterConfigFile));
    CHECK(verified_) << "the adapter was not tried";
    rusage usage;
    CHECK_EQ(getrusage(RUSAGE_SELF, &usage), 0);
    const MemoryPlan plan = Plan();
    std::cout << JsonText(Json{{"main_at", main_},
                               {"joined_at", joined_},
                               {"first_step_at", first_step_},
                               {"step_seconds", step_seconds_},
                               {"peak_rss_bytes", int64_t{usage.ru_maxrss} * 1024},
                               {"base_bytes", plan.base_bytes},
                               {"plan_bytes", plan.total_bytes()},
                               {"plan", plan.Text()}})
              << "\n";
  }

 private:
  std::string BytesOf(const std::string& file) const { return result_.artifact->Find(file)->bytes; }

  trainer::TrainingConfig Config() const {
    trainer::TrainingConfig config;
    config.learning_rate = 1e-4;
    config.max_steps = settings_.steps;
    config.per_device_train_batch_size = settings_.batch;
    config.micro_batch_tokens = settings_.micro_batch_tokens;
    config.lora.rank = settings_.rank;
    return config;
  }

  // As JobEngine makes it.
  MemoryPlan Plan() const {
    const auto weights = trainer::ModelWeights::Open(settings_.model);
    CHECK(weights.ok()) << weights.status();
    const trainer::ModelManifest& manifest = (*weights)->manifest();
    const auto backend = trainer::NewCpuBackend({.compute_type = manifest.form});
    CHECK(backend.ok()) << backend.status();
    const trainer::ModelConfig& config = (*weights)->config();
    const auto targets =
        trainer::ResolveTargets(Config().lora, trainer::LlamaModules((*weights)->config()));
    CHECK(targets.ok()) << targets.status();
    return PlanMemory(**backend, config, manifest.Find(trainer::kWeightsFile)->size_bytes, *targets,
                      settings_.micro_batch_tokens, *data_);
  }

  void Prepare(const std::string&, const v1::TrainTask& task, std::shared_ptr<Cancellation>,
               Done done) override {
    const auto weights = trainer::ModelWeights::Open(settings_.model);
    CHECK(weights.ok()) << weights.status();
    data_ = trainer::ReadTokenData(settings_.data);
    Preparation preparation{.job = std::make_unique<PreparedJob>()};
    preparation.job->task = task;
    preparation.job->base_folder = settings_.model;
    preparation.job->compute_type = (*weights)->manifest().form;
    preparation.job->config = Config();
    preparation.job->data = data_;
    done(std::move(preparation));
  }

  void OnTraining(const AttemptKey&, int64_t) override { joined_ = Monotonic(); }
  void OnProgress(const AttemptKey&, v1::MetricPoint) override {
    // Before the step's checkpoint is made; a step is one pass here.
    step_seconds_.push_back(Monotonic() - pass_began_);
    if (first_step_ == 0) first_step_ = Monotonic();
  }
  void OnLog(const AttemptKey&, v1::JobEvent::Level, std::string) override {}
  void OnCheckpoint(const AttemptKey&, std::shared_ptr<const Artifact> artifact) override {
    checkpoints_.push_back(std::move(artifact));
    if (checkpoints_.size() > 2) checkpoints_.pop_front();
  }
  void OnLeft(const AttemptKey&, std::shared_ptr<const Artifact>) override {}
  void OnFailed(const AttemptKey&, v1::Failure failure) override {
    LOG(FATAL) << "the job failed: " << failure.message();
  }
  void OnFinished(const AttemptKey&, TrainedResult result) override {
    result_ = std::move(result);
    checkpoints_.push_back(result_.checkpoint);
    checkpoints_.pop_front();
  }
  void OnVerified(const AttemptKey&, absl::Status status) override {
    CHECK(status.ok()) << status;
    verified_ = true;
  }

  const double main_ = Monotonic();
  const Settings settings_;
  const AttemptKey key_ = {"tenants/bench/jobs/start", 1, "start-1"};
  Metrics registry_{"worker"};
  WorkerMetrics metrics_{registry_};
  std::shared_ptr<const trainer::TrainingData> data_;
  std::deque<absl::AnyInvocable<void()>> posted_;
  double joined_ = 0, pass_began_ = 0, first_step_ = 0;
  std::vector<double> step_seconds_;
  std::deque<std::shared_ptr<const Artifact>> checkpoints_;
  TrainedResult result_;
  bool verified_ = false;
  JobEngine engine_;
};

}  // namespace
}  // namespace deltaworks::services

int main(int argc, char** argv) {
  deltaworks::services::Settings settings;
  CLI::App app("Start and memory of a worker's engine with one job on the cpu backend.");
  app.add_option("--model", settings.model,
                 "folder of a stored model; its form is the compute type")
      ->required();
  app.add_option("--data", settings.data, "JSON: list of {ids, prompt_tokens}")->required();
  app.add_option("--rank", settings.rank);
  app.add_option("--batch", settings.batch, "examples of a step");
  app.add_option("--steps", settings.steps)->check(CLI::Range(2, 1000));
  app.add_option("--micro-batch-tokens", settings.micro_batch_tokens);
  app.add_option("--threads", settings.threads);
  CLI11_PARSE(app, argc, argv);
  deltaworks::services::Benchmark(settings).Run();
}

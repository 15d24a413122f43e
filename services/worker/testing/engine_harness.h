// EngineHarness: a JobEngine over TinyWorld that a test drives pass by pass, and what it told.
// Thread-compatible.

#ifndef DELTAWORKS_SERVICES_WORKER_TESTING_ENGINE_HARNESS_H_
#define DELTAWORKS_SERVICES_WORKER_TESTING_ENGINE_HARNESS_H_

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "services/base/clock.h"
#include "services/worker/job_engine.h"
#include "services/worker/job_preparation.h"
#include "services/worker/testing/tiny_world.h"
#include "trainer/backend/cpu/cpu_backend.h"

namespace deltaworks::services {

class DirectPreparer final : public JobPreparer {
 public:
  explicit DirectPreparer(BaseCache& bases) : bases_(bases) {}
  void Prepare(const std::string& job, const v1::TrainTask& task,
               std::shared_ptr<Cancellation> cancellation, Done done) override {
    done(PrepareJob(job, task, bases_, TheWorld().store, cancellation, gang_listener.get(),
                    {.total_max = absl::ZeroDuration()}));
  }

  std::unique_ptr<trainer::TcpListener> gang_listener;

 private:
  BaseCache& bases_;
};

// One worker process, driven pass by pass: dropping it is kill -9.
class EngineHarness final : public TrainerEvents {
 public:
  using NewBackend = decltype(JobEngine::Options::new_backend);

  explicit EngineHarness(int threads = 1, int64_t memory_bytes = int64_t{1} << 34,
                         BaseCache& bases = *TheWorld().bases)
      : EngineHarness(
            [threads](trainer::DType type) {
              return trainer::NewCpuBackend({.compute_type = type, .threads = threads});
            },
            memory_bytes, bases) {}
  explicit EngineHarness(NewBackend new_backend, int64_t memory_bytes = int64_t{1} << 34,
                         BaseCache& bases = *TheWorld().bases)
      : preparer_(bases),
        engine_(
            {.new_backend = std::move(new_backend),
             .memory_bytes = memory_bytes,
             .post =
                 [this](absl::AnyInvocable<void()> task) { posted_.push_back(std::move(task)); }},
            preparer_, *this, clock_, TheWorld().metrics) {}

  JobEngine& engine() { return engine_; }
  // It can be part of gangs, reached at the address that is returned.
  std::string ListenForGangs() {
    preparer_.gang_listener = *trainer::TcpListener::Bind("127.0.0.1", 0);
    return preparer_.gang_listener->address();
  }
  bool RunOnce() {
    while (!posted_.empty()) {
      auto task = std::move(posted_.front());
      posted_.pop_front();
      task();
    }
    clock_.Advance(absl::Milliseconds(10));
    return engine_.RunOnce();
  }
  void RunAll() {
    while (RunOnce()) {
    }
  }

  FakeClock& clock() { return clock_; }

  void OnPass(const PassReport& pass) override {
    for (const PassReport::DeviceTime& job : pass.device_times) {
      device_times[job.key.job] = job.so_far;
    }
    if (pass.measure.has_value()) measures.push_back(*pass.measure);
  }
  void OnTraining(const AttemptKey&, int64_t step) override { started_at.push_back(step); }
  void OnProgress(const AttemptKey& key, v1::MetricPoint point) override {
    steps[key.job] = point.step();
    speeds[key.job][point.step()] = point.tokens_per_second();
    point.clear_time();
    point.clear_tokens_per_second();
    metrics[key.job][point.step()] = point.SerializeAsString();
  }
  void OnLog(const AttemptKey&, v1::JobEvent::Level, std::string message) override {
    logs.push_back(std::move(message));
  }
  void OnCheckpoint(const AttemptKey& key, std::shared_ptr<const Artifact> artifact) override {
    checkpoints[key.job] = std::move(artifact);
  }
  void OnLeft(const AttemptKey& key, std::shared_ptr<const Artifact> checkpoint) override {
    left.push_back(key);
    if (checkpoint != nullptr) checkpoints[key.job] = std::move(checkpoint);
  }
  void OnFailed(const AttemptKey& key, v1::Failure failure) override {
    failures[key.job] = std::move(failure);
  }
  void OnFinished(const AttemptKey& key, TrainedResult result) override {
    results[key.job] = std::move(result);
  }
  void OnVerified(const AttemptKey&, absl::Status status) override {
    verified.push_back(std::move(status));
  }

  std::map<std::string, int64_t> steps;
  std::map<std::string, std::map<int64_t, std::string>> metrics;
  std::map<std::string, std::map<int64_t, double>> speeds;
  std::map<std::string, absl::Duration> device_times;
  std::vector<PassMeasure> measures;
  std::map<std::string, std::shared_ptr<const Artifact>> checkpoints;
  std::map<std::string, v1::Failure> failures;
  std::map<std::string, TrainedResult> results;
  std::vector<AttemptKey> left;
  std::vector<absl::Status> verified;
  std::vector<std::string> logs;
  std::vector<int64_t> started_at;

 private:
  FakeClock clock_;
  DirectPreparer preparer_;
  std::deque<absl::AnyInvocable<void()>> posted_;
  JobEngine engine_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_TESTING_ENGINE_HARNESS_H_

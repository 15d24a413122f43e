#include "services/worker/trainer_thread.h"

#include <utility>

namespace deltaworks::services {

// Carries events from the trainer's thread to the core's loop.
class TrainerThread::PostedEvents final : public TrainerEvents {
 public:
  explicit PostedEvents(TrainerThread& owner) : owner_(owner) {}

  void OnTraining(const AttemptKey& key, int64_t step) override {
    Post([key, step](TrainerEvents& to) { to.OnTraining(key, step); });
  }
  void OnPass(const PassReport& pass) override {
    Post([pass](TrainerEvents& to) { to.OnPass(pass); });
  }
  void OnProgress(const AttemptKey& key, v1::MetricPoint point) override {
    Post([key, point = std::move(point)](TrainerEvents& to) mutable {
      to.OnProgress(key, std::move(point));
    });
  }
  void OnLog(const AttemptKey& key, v1::JobEvent::Level level, std::string message) override {
    Post([key, level, message = std::move(message)](TrainerEvents& to) mutable {
      to.OnLog(key, level, std::move(message));
    });
  }
  void OnCheckpoint(const AttemptKey& key, std::shared_ptr<const Artifact> artifact) override {
    Post([key, artifact = std::move(artifact)](TrainerEvents& to) {
      to.OnCheckpoint(key, artifact);
    });
  }
  void OnLeft(const AttemptKey& key, std::shared_ptr<const Artifact> checkpoint) override {
    Post([key, checkpoint = std::move(checkpoint)](TrainerEvents& to) {
      to.OnLeft(key, checkpoint);
    });
  }
  void OnFailed(const AttemptKey& key, v1::Failure failure) override {
    Post([key, failure = std::move(failure)](TrainerEvents& to) mutable {
      to.OnFailed(key, std::move(failure));
    });
  }
  void OnFinished(const AttemptKey& key, TrainedResult result) override {
    Post([key, result = std::move(result)](TrainerEvents& to) mutable {
      to.OnFinished(key, std::move(result));
    });
  }
  void OnVerified(const AttemptKey& key, absl::Status status) override {
    Post([key, status = std::move(status)](TrainerEvents& to) mutable {
      to.OnVerified(key, std::move(status));
    });
  }

 private:
  void Post(absl::AnyInvocable<void(TrainerEvents&)> event) {
    owner_.loop_.Post([to = owner_.events_, event = std::move(event)]() mutable { event(*to); });
  }

  TrainerThread& owner_;
};

TrainerThread::TrainerThread(JobEngine::Options options, JobPreparer& preparer, EventLoop& loop,
                             const Clock& clock, WorkerMetrics& metrics)
    : loop_(loop),
      posted_(std::make_unique<PostedEvents>(*this)),
      engine_([&] {
        options.post = [this](Command command) { Push(std::move(command)); };
        return std::make_unique<JobEngine>(std::move(options), preparer, *posted_, clock, metrics);
      }()),
      thread_([this] { Run(); }) {}

TrainerThread::~TrainerThread() { Shutdown(); }

void TrainerThread::Shutdown() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  engine_->InterruptAll();
  if (thread_.joinable()) thread_.join();
  engine_->InterruptAll();  // What it had begun meanwhile.
}

void TrainerThread::Push(Command command) {
  MutexLock lock(&mutex_);
  commands_.push_back(std::move(command));
  changed_.SignalAll();
}

void TrainerThread::Run() {
  bool worked = false;
  while (true) {
    std::deque<Command> commands;
    {
      MutexLock lock(&mutex_);
      while (!worked && commands_.empty() && !stopping_) changed_.Wait(&mutex_);
      if (stopping_) return;
      commands.swap(commands_);
    }
    for (Command& command : commands) command();
    worked = engine_->RunOnce();
  }
}

void TrainerThread::Start(const AttemptKey& key, const v1::TrainTask& task) {
  Push([this, key, task] { engine_->Start(key, task); });
}
void TrainerThread::TakeCheckpoint(const AttemptKey& key) {
  Push([this, key] { engine_->TakeCheckpoint(key); });
}
void TrainerThread::Park(const AttemptKey& key) {
  Push([this, key] { engine_->Park(key); });
}
void TrainerThread::Resume(const AttemptKey& key) {
  Push([this, key] { engine_->Resume(key); });
}
void TrainerThread::Leave(const AttemptKey& key) {
  Push([this, key] { engine_->Leave(key); });
}
void TrainerThread::Stop(const AttemptKey& key) {
  engine_->Interrupt(key);  // It may be waiting for the others of its gang.
  Push([this, key] { engine_->Stop(key); });
}
void TrainerThread::Verify(const AttemptKey& key, std::string adapter_model,
                           std::string adapter_config) {
  Push([this, key, model = std::move(adapter_model), config = std::move(adapter_config)]() mutable {
    engine_->Verify(key, std::move(model), std::move(config));
  });
}
void TrainerThread::Forget(const AttemptKey& key) {
  Push([this, key] { engine_->Forget(key); });
}

}  // namespace deltaworks::services

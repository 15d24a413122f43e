// TrainerThread: a JobEngine on a thread of its own. Commands are queued for it and taken in
// between passes; what it tells reaches the core on the core's event loop, in order.
//
//   loop --commands--> [ thread: JobEngine, backends, models, runs ] --events--> loop
//
// Thread-safe.

#ifndef DELTAWORKS_SERVICES_WORKER_TRAINER_THREAD_H_
#define DELTAWORKS_SERVICES_WORKER_TRAINER_THREAD_H_

#include <deque>
#include <memory>
#include <string>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "services/base/clock.h"
#include "services/base/event_loop.h"
#include "services/worker/job_engine.h"
#include "services/worker/job_preparation.h"
#include "services/worker/metrics.h"
#include "services/worker/seams.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class TrainerThread final : public Trainer {
 public:
  // `options.post` is filled in here. All references must outlive this.
  TrainerThread(JobEngine::Options options, JobPreparer& preparer, EventLoop& loop,
                const Clock& clock, WorkerMetrics& metrics);
  ~TrainerThread() override;

  // Ends the thread after the pass under way; what is queued then, or comes later, is not run. The
  // preparer, which calls back, must be gone before this object is.
  void Shutdown();

  // Who is told. Before the first Start().
  void SetEvents(TrainerEvents* events) { events_ = events; }

  void Start(const AttemptKey& key, const v1::TrainTask& task) override;
  void TakeCheckpoint(const AttemptKey& key) override;
  void Park(const AttemptKey& key) override;
  void Resume(const AttemptKey& key) override;
  void Leave(const AttemptKey& key) override;
  void Stop(const AttemptKey& key) override;
  void Verify(const AttemptKey& key, std::string adapter_model,
              std::string adapter_config) override;
  void Forget(const AttemptKey& key) override;

 private:
  class PostedEvents;
  using Command = absl::AnyInvocable<void()>;

  void Push(Command command);
  void Run();

  EventLoop& loop_;
  TrainerEvents* events_ = nullptr;
  const std::unique_ptr<PostedEvents> posted_;
  const std::unique_ptr<JobEngine> engine_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Command> commands_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses what is above.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_TRAINER_THREAD_H_

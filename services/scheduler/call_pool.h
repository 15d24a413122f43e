// CallPool: where calls that block (store, registry) are made, outside of the event loop.
//
// Whoever uses it bounds what it has under way; the pool itself queues what it is given. A call
// posts its answer to the loop.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_CALL_POOL_H_
#define DELTAWORKS_SERVICES_SCHEDULER_CALL_POOL_H_

#include <deque>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class CallPool {
 public:
  using Call = absl::AnyInvocable<void()>;
  virtual ~CallPool() = default;
  // Thread-safe.
  virtual void Run(Call call) = 0;
};

class ThreadCallPool final : public CallPool {
 public:
  explicit ThreadCallPool(int threads);
  // Waits for the calls that run; drops those that wait.
  ~ThreadCallPool() override;

  void Run(Call call) override;

 private:
  void Work();

  Mutex mutex_;
  CondVar changed_;
  std::deque<Call> calls_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // Last: they use what is above.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_CALL_POOL_H_

// Cancellation: that an attempt is no longer wanted, for whatever waits on its behalf: transfers
// ask now and then, and what waits for others (a gang's communicator) is told. Thread-safe.

#ifndef DELTAWORKS_SERVICES_WORKER_CANCELLATION_H_
#define DELTAWORKS_SERVICES_WORKER_CANCELLATION_H_

#include <functional>
#include <utility>

#include "trainer/base/mutex.h"

namespace deltaworks::services {

class Cancellation {
 public:
  // Idempotent.
  void Cancel() {
    MutexLock lock(&mutex_);
    if (std::exchange(cancelled_, true)) return;
    if (on_cancel_) on_cancel_();
  }

  bool cancelled() const {
    MutexLock lock(&mutex_);
    return cancelled_;
  }

  // Called once, by Cancel(), or at once if that was before; must return at once. Empty: nobody
  // waits any more, and when this returns nobody is being told.
  void OnCancel(std::function<void()> on_cancel) {
    MutexLock lock(&mutex_);
    on_cancel_ = std::move(on_cancel);
    if (cancelled_ && on_cancel_) on_cancel_();
  }

 private:
  mutable Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> on_cancel_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_CANCELLATION_H_

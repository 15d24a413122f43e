// Life: whether a communicator lives, and if not, what it died of. Thread-safe.

#ifndef DELTAWORKS_TRAINER_COMM_LIFE_H_
#define DELTAWORKS_TRAINER_COMM_LIFE_H_

#include "absl/status/status.h"
#include "trainer/base/mutex.h"

namespace deltaworks::trainer {

class Life {
 public:
  // OK, or what it died of.
  absl::Status status() const {
    MutexLock lock(&mutex_);
    return death_;
  }

  // Ends it with `cause`, unless it has ended. Returns what it died of.
  absl::Status End(absl::Status cause) {
    MutexLock lock(&mutex_);
    death_.Update(std::move(cause));
    return death_;
  }

 private:
  mutable Mutex mutex_;
  absl::Status death_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_LIFE_H_

// IgnoreLockOrder: for simulations, which run many threads' work on one. The order in which that
// one takes locks says nothing, so abseil must not look for cycles in it. For the whole process.

#ifndef DELTAWORKS_TRAINER_BASE_LOCK_ORDER_H_
#define DELTAWORKS_TRAINER_BASE_LOCK_ORDER_H_

#include "absl/synchronization/mutex.h"

namespace deltaworks {

inline void IgnoreLockOrder() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace deltaworks

#endif  // DELTAWORKS_TRAINER_BASE_LOCK_ORDER_H_

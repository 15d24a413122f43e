// Mutex, MutexLock, CondVar: abseil's, made known to ThreadSanitizer.
//
// Debian's abseil is not built for TSan, which therefore sees no synchronisation in a plain
// absl::Mutex and reports races that are none. These wrappers tell it what happens; without TSan
// they compile to the absl calls. All locks of the project are of this type, so that the lock
// annotations are checked in one way (tests/tidy runs clang's -Wthread-safety; g++ ignores them).
//
// Conditions are waited for with CondVar rather than absl::Condition, whose evaluation inside
// Unlock() could not be annotated from outside.

#ifndef DELTAWORKS_TRAINER_BASE_MUTEX_H_
#define DELTAWORKS_TRAINER_BASE_MUTEX_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define DW_TSAN_(call) call
#else
#define DW_TSAN_(call) static_cast<void>(0)
#endif

namespace deltaworks {

class CondVar;

class ABSL_LOCKABLE Mutex {
 public:
  Mutex() { DW_TSAN_(__tsan_mutex_create(this, 0)); }
  ~Mutex() { DW_TSAN_(__tsan_mutex_destroy(this, 0)); }
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    DW_TSAN_(__tsan_mutex_pre_lock(this, 0));
    mutex_.Lock();
    DW_TSAN_(__tsan_mutex_post_lock(this, 0, 0));
  }

  void Unlock() ABSL_UNLOCK_FUNCTION() {
    DW_TSAN_(__tsan_mutex_pre_unlock(this, 0));
    mutex_.Unlock();
    DW_TSAN_(__tsan_mutex_post_unlock(this, 0));
  }

  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() { mutex_.AssertHeld(); }

 private:
  friend class CondVar;
  absl::Mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_->Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mutex_;
};

// A waiter may wake without a signal: wait in a loop that checks what is waited for.
class CondVar {
 public:
  void Wait(Mutex* mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    DW_TSAN_(__tsan_mutex_pre_unlock(mutex, 0));
    DW_TSAN_(__tsan_mutex_post_unlock(mutex, 0));
    cond_var_.Wait(&mutex->mutex_);
    DW_TSAN_(__tsan_mutex_pre_lock(mutex, 0));
    DW_TSAN_(__tsan_mutex_post_lock(mutex, 0, 0));
  }

  // Returns true if `timeout` passed before a signal came.
  bool WaitWithTimeout(Mutex* mutex, absl::Duration timeout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    DW_TSAN_(__tsan_mutex_pre_unlock(mutex, 0));
    DW_TSAN_(__tsan_mutex_post_unlock(mutex, 0));
    const bool timed_out = cond_var_.WaitWithTimeout(&mutex->mutex_, timeout);
    DW_TSAN_(__tsan_mutex_pre_lock(mutex, 0));
    DW_TSAN_(__tsan_mutex_post_lock(mutex, 0, 0));
    return timed_out;
  }

  void Signal() { cond_var_.Signal(); }
  void SignalAll() { cond_var_.SignalAll(); }

 private:
  absl::CondVar cond_var_;
};

}  // namespace deltaworks

#endif  // DELTAWORKS_TRAINER_BASE_MUTEX_H_

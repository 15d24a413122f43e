#include "trainer/backend/cpu/thread_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace deltaworks::trainer {
namespace {

// About 20 to 50 microseconds: longer than the time between two operations of a training step.
constexpr int kSpins = 1000;

// Exceptions masked, round to nearest, FTZ and DAZ off: what the ABI starts a thread with.
constexpr uint32_t kDefaultFloatMode = 0x1f80;

absl::Status CheckCores(absl::Span<const int> cores) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
    return absl::InternalError("sched_getaffinity failed");
  }
  for (const int core : cores) {
    if (core < 0 || core >= CPU_SETSIZE || !CPU_ISSET(core, &allowed)) {
      return absl::InvalidArgumentError(
          absl::StrCat("core is ", core, ", want one that this process may use"));
    }
  }
  return absl::OkStatus();
}

void PinThread(std::thread& thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  // The set of allowed cores may shrink at any time; the results do not depend on it.
  if (const int error = pthread_setaffinity_np(thread.native_handle(), sizeof(set), &set);
      error != 0) {
    LOG(WARNING) << "thread not pinned to core " << core << ": error " << error;
  }
}

}  // namespace

KernelScope::KernelScope() : float_mode_(_mm_getcsr()) { _mm_setcsr(kDefaultFloatMode); }

KernelScope::~KernelScope() { _mm_setcsr(float_mode_); }

absl::StatusOr<std::unique_ptr<ThreadPool>> ThreadPool::Create(int threads,
                                                               absl::Span<const int> cores) {
  if (threads < 1 || threads > 1024) {
    return absl::InvalidArgumentError(absl::StrCat("threads is ", threads, ", want 1..1024"));
  }
  if (absl::Status status = CheckCores(cores); !status.ok()) return status;
  auto pool = absl::WrapUnique(new ThreadPool());
  for (int worker = 1; worker < threads; ++worker) {
    pool->threads_.emplace_back([p = pool.get(), worker] { p->WorkerLoop(worker); });
    if (!cores.empty()) PinThread(pool->threads_.back(), cores[worker % cores.size()]);
  }
  return pool;
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  {
    MutexLock lock(&mutex_);
    work_arrived_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::ParallelFor(int64_t tasks, absl::FunctionRef<void(int64_t, int)> run) {
  if (tasks <= 0) return;
  KernelScope scope;
  if (threads_.empty() || tasks == 1) {
    for (int64_t task = 0; task < tasks; ++task) run(task, 0);
    return;
  }
  run_ = &run;
  tasks_ = tasks;
  finished_.store(0, std::memory_order_relaxed);
  // Sequentially consistent with sleepers_: either this thread sees the sleeper and wakes it, or
  // the sleeper sees the work.
  remaining_.store(tasks);
  if (sleepers_.load() > 0) {
    MutexLock lock(&mutex_);
    work_arrived_.SignalAll();
  }
  Drain(/*worker=*/0);
  for (int spins = 0; finished_.load(std::memory_order_acquire) != tasks; ++spins) {
    if (spins < kSpins) {
      _mm_pause();
    } else {
      sched_yield();
    }
  }
}

void ThreadPool::WorkerLoop(int worker) {
  KernelScope scope;
  while (WaitForWork()) Drain(worker);
}

void ThreadPool::Drain(int worker) {
  int64_t remaining = remaining_.load(std::memory_order_acquire);
  while (remaining > 0) {
    if (!remaining_.compare_exchange_weak(remaining, remaining - 1, std::memory_order_acq_rel,
                                          std::memory_order_acquire)) {
      continue;
    }
    // The task keeps this ParallelFor alive, so run_ and tasks_ are its own.
    (*run_)(tasks_ - remaining, worker);
    finished_.fetch_add(1, std::memory_order_release);
    remaining = remaining_.load(std::memory_order_acquire);
  }
}

bool ThreadPool::WaitForWork() {
  for (int spins = 0; spins < kSpins; ++spins) {
    if (remaining_.load(std::memory_order_relaxed) > 0) return true;
    if (stopping_.load(std::memory_order_relaxed)) return false;
    _mm_pause();
  }
  MutexLock lock(&mutex_);
  sleepers_.fetch_add(1);
  while (remaining_.load() == 0 && !stopping_.load()) work_arrived_.Wait(&mutex_);
  sleepers_.fetch_sub(1);
  return !stopping_.load();
}

}  // namespace deltaworks::trainer

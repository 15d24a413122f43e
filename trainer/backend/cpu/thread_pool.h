// ThreadPool: the threads of one CpuBackend.
//
// ParallelFor hands out tasks by a counter, so which thread runs a task is chance; tasks must
// therefore write to places of their own, and results depend on the cut into tasks only, never on
// the number of threads. The caller works too. Operations follow each other within microseconds, so
// idle threads look for work a short while before they sleep.
//
// Every thread that runs a task does so within a KernelScope: one floating-point mode for all.
//
// Thread-compatible: one ParallelFor at a time, and none from within a task.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_THREAD_POOL_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/base/mutex.h"

namespace deltaworks::trainer {

// While alive, this thread rounds to nearest and keeps denormal numbers; afterwards it is as it was
// before.
class KernelScope {
 public:
  KernelScope();
  ~KernelScope();
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  const uint32_t float_mode_;
};

class ThreadPool {
 public:
  // `threads` counts the caller of ParallelFor, which is worker 0; `threads` - 1 are started.
  // `cores`: started thread i runs on cores[i % size] only; empty: anywhere. The caller's own
  // thread is never pinned: it belongs to the process.
  //   InvalidArgument  a core that this process may not use; threads < 1.
  static absl::StatusOr<std::unique_ptr<ThreadPool>> Create(int threads,
                                                            absl::Span<const int> cores);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls run(task, worker) once for each task in [0, tasks) and returns when all have returned.
  // `worker` in [0, threads()) tells tasks that run at the same time apart: per-thread scratch.
  void ParallelFor(int64_t tasks, absl::FunctionRef<void(int64_t task, int worker)> run);

 private:
  ThreadPool() = default;
  void WorkerLoop(int worker);
  // Runs tasks while there are any.
  void Drain(int worker);
  bool WaitForWork();

  std::vector<std::thread> threads_;

  // The current ParallelFor. Written by the caller while remaining_ is 0, published by the store to
  // remaining_; whoever takes a task off remaining_ may read them until it counts as finished.
  const absl::FunctionRef<void(int64_t, int)>* run_ = nullptr;
  int64_t tasks_ = 0;
  // On cache lines of their own: all threads write to them.
  alignas(64) std::atomic<int64_t> remaining_{0};
  alignas(64) std::atomic<int64_t> finished_{0};

  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  Mutex mutex_;
  CondVar work_arrived_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_THREAD_POOL_H_

#include "services/cli/parallel.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "trainer/base/mutex.h"

namespace deltaworks::services {
namespace {

// Hands out items and keeps the first error.
class Queue {
 public:
  explicit Queue(int64_t count) : count_(count), failed_(count) {}

  // The next item; -1: none.
  int64_t Next() {
    MutexLock lock(&mutex_);
    return next_ < count_ && status_.ok() ? next_++ : -1;
  }

  void Fail(int64_t item, absl::Status status) {
    MutexLock lock(&mutex_);
    if (item >= failed_) return;
    failed_ = item;
    status_ = std::move(status);
  }

  absl::Status status() {
    MutexLock lock(&mutex_);
    return status_;
  }

 private:
  const int64_t count_;
  Mutex mutex_;
  int64_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t failed_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::Status RunParallel(int64_t count, int64_t threads_max,
                         const std::function<absl::Status(int64_t)>& work) {
  Queue queue(count);
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < std::min(count, threads_max); ++i) {
    threads.emplace_back([&] {
      for (int64_t item = queue.Next(); item >= 0; item = queue.Next()) {
        if (absl::Status status = work(item); !status.ok()) queue.Fail(item, std::move(status));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return queue.status();
}

}  // namespace deltaworks::services

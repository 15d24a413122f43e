#include "services/scheduler/call_pool.h"

#include <utility>

namespace deltaworks::services {

ThreadCallPool::ThreadCallPool(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

ThreadCallPool::~ThreadCallPool() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadCallPool::Run(Call call) {
  MutexLock lock(&mutex_);
  calls_.push_back(std::move(call));
  changed_.Signal();
}

void ThreadCallPool::Work() {
  while (true) {
    Call call;
    {
      MutexLock lock(&mutex_);
      while (calls_.empty() && !stopping_) changed_.Wait(&mutex_);
      if (stopping_) return;
      call = std::move(calls_.front());
      calls_.pop_front();
    }
    call();
  }
}

}  // namespace deltaworks::services

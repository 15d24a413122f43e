#include "services/base/event_loop.h"

#include <algorithm>

#include "glog/logging.h"

namespace deltaworks::services {

EventLoop::TimerId TaskQueue::Arm(absl::Duration deadline, EventLoop::Task task) {
  const EventLoop::TimerId timer = ++last_timer_;
  timers_.emplace(std::make_pair(deadline, timer), std::move(task));
  deadlines_.emplace(timer, deadline);
  return timer;
}

void TaskQueue::Disarm(EventLoop::TimerId timer) {
  const auto found = deadlines_.find(timer);
  if (found == deadlines_.end()) return;
  timers_.erase({found->second, timer});
  deadlines_.erase(found);
}

EventLoop::Task TaskQueue::Take(absl::Duration now) {
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    deadlines_.erase(timers_.begin()->first.second);
    ready_.push_back(std::move(timers_.begin()->second));
    timers_.erase(timers_.begin());
  }
  if (ready_.empty()) return nullptr;
  EventLoop::Task task = std::move(ready_.front());
  ready_.pop_front();
  return task;
}

absl::Duration TaskQueue::NextDeadline() const {
  return timers_.empty() ? absl::InfiniteDuration() : timers_.begin()->first.first;
}

RealEventLoop::RealEventLoop(const Clock& clock) : clock_(clock), thread_([this] { Run(); }) {}

RealEventLoop::~RealEventLoop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.Signal();
  }
  CHECK(thread_.get_id() != std::this_thread::get_id()) << "a loop ended by one of its tasks";
  thread_.join();
}

void RealEventLoop::Post(Task task) {
  MutexLock lock(&mutex_);
  queue_.Push(std::move(task));
  changed_.Signal();
}

EventLoop::TimerId RealEventLoop::PostAfter(absl::Duration delay, Task task) {
  const absl::Duration deadline = clock_.Monotonic() + delay;
  MutexLock lock(&mutex_);
  const TimerId timer = queue_.Arm(deadline, std::move(task));
  changed_.Signal();
  return timer;
}

void RealEventLoop::Cancel(TimerId timer) {
  MutexLock lock(&mutex_);
  queue_.Disarm(timer);
}

int64_t RealEventLoop::queued() const {
  MutexLock lock(&mutex_);
  return queue_.size();
}

void RealEventLoop::Run() {
  while (true) {
    Task task;
    {
      MutexLock lock(&mutex_);
      while (!stopping_) {
        const absl::Duration now = clock_.Monotonic();
        task = queue_.Take(now);
        if (task != nullptr) break;
        changed_.WaitWithTimeout(&mutex_, queue_.NextDeadline() - now);
      }
      if (stopping_) return;
    }
    task();
  }
}

void FakeEventLoop::Post(Task task) {
  MutexLock lock(&mutex_);
  queue_.Push(std::move(task));
}

EventLoop::TimerId FakeEventLoop::PostAfter(absl::Duration delay, Task task) {
  MutexLock lock(&mutex_);
  return queue_.Arm(clock_.Monotonic() + delay, std::move(task));
}

void FakeEventLoop::Cancel(TimerId timer) {
  MutexLock lock(&mutex_);
  queue_.Disarm(timer);
}

EventLoop::Task FakeEventLoop::Take() {
  MutexLock lock(&mutex_);
  return queue_.Take(clock_.Monotonic());
}

int64_t FakeEventLoop::RunReady() {
  int64_t count = 0;
  for (Task task = Take(); task != nullptr; task = Take()) {
    task();
    ++count;
  }
  return count;
}

void FakeEventLoop::Advance(absl::Duration step) {
  const absl::Duration end = clock_.Monotonic() + step;
  RunReady();
  while (true) {
    absl::Duration next;
    {
      MutexLock lock(&mutex_);
      next = queue_.NextDeadline();
    }
    if (next > end) break;
    clock_.Advance(std::max(next - clock_.Monotonic(), absl::ZeroDuration()));
    RunReady();
  }
  clock_.Advance(std::max(end - clock_.Monotonic(), absl::ZeroDuration()));
}

}  // namespace deltaworks::services

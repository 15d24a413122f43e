#include "tests/simulation/process.h"

#include <algorithm>
#include <utility>

namespace deltaworks::simulation {

void ProcessLoop::Post(Task task) {
  if (dead_) return;
  queue_.Push(std::move(task));
  Arm();
}

ProcessLoop::TimerId ProcessLoop::PostAfter(absl::Duration delay, Task task) {
  if (dead_) return 0;
  const TimerId timer = queue_.Arm(machine_.Monotonic() + delay, std::move(task));
  Arm();
  return timer;
}

void ProcessLoop::Cancel(TimerId timer) { queue_.Disarm(timer); }

void ProcessLoop::Kill() {
  dead_ = true;
  // Later: one of them may be what runs.
  timeline_.After(absl::ZeroDuration(),
                  [self = shared_from_this()] { self->queue_ = services::TaskQueue(); });
}

void ProcessLoop::Arm() {
  if (running_ || dead_) return;
  absl::Duration when = timeline_.now();
  if (!queue_.HasReady()) {
    const absl::Duration deadline = queue_.NextDeadline();
    if (deadline == absl::InfiniteDuration()) return;
    when += deadline - machine_.Monotonic();
  }
  when = std::max({when, timeline_.now(), machine_.runs_from()});
  if (when >= armed_for_) return;
  armed_for_ = when;
  timeline_.At(when, [self = shared_from_this(), when] {
    if (self->armed_for_ != when) return;
    self->armed_for_ = absl::InfiniteDuration();
    self->Run();
  });
}

void ProcessLoop::Run() {
  running_ = true;
  while (!dead_ && !machine_.stopped()) {
    Task task = queue_.Take(machine_.Monotonic());
    if (task == nullptr) break;
    task();
  }
  running_ = false;
  Arm();
}

void Process::Spawn(absl::AnyInvocable<void()> body) {
  loop_->Post([this, body = std::move(body)]() mutable {
    for (auto it = fibers_.begin(); it != fibers_.end();) {
      it = it->done() ? fibers_.erase(it) : std::next(it);
    }
    fibers_.emplace_back(std::move(body)).Resume();
  });
}

void Process::Sleep(absl::Duration time) {
  if (dead()) return;
  timeline_.After(time, [loop = loop_, fiber = Fiber::Current()] { Wake(*loop, fiber); });
  Wait();
}

void Process::Unwind() {
  Kill();
  // In turns: one may wait for another.
  while (!fibers_.empty()) {
    for (auto it = fibers_.begin(); it != fibers_.end();) {
      if (!it->done()) it->Resume();
      it = it->done() ? fibers_.erase(it) : std::next(it);
    }
  }
}

}  // namespace deltaworks::simulation

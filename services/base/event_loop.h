// EventLoop: where event handlers run, one after the other.
//
// A core that is driven by an EventLoop needs no lock: all of its state is touched by tasks of one
// loop. gRPC handlers and worker threads Post() what happened; the core arms timers with
// PostAfter(). RealEventLoop owns the one thread; FakeEventLoop runs tasks when a test says so and
// moves the FakeClock from timer to timer, so that hours pass in no time and in a fixed order.
//
// Tasks posted by one thread run in its order. A timer never runs early, and timers run by
// deadline, then in the order they were armed. The queue has no bound of its own: every poster has
// one (calls in flight, timers armed once), and queued() feeds a gauge.
//
// Thread-safe. Tasks must not block and must not throw.

#ifndef DELTAWORKS_SERVICES_BASE_EVENT_LOOP_H_
#define DELTAWORKS_SERVICES_BASE_EVENT_LOOP_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "services/base/clock.h"
#include "trainer/base/mutex.h"

namespace deltaworks::services {

class EventLoop {
 public:
  using Task = absl::AnyInvocable<void()>;
  using TimerId = int64_t;  // From 1; 0 is never a timer.

  virtual ~EventLoop() = default;
  virtual void Post(Task task) = 0;
  // Runs `task` once `delay` has passed on the clock's monotonic time; at once if it is <= 0.
  virtual TimerId PostAfter(absl::Duration delay, Task task) = 0;
  // The timer's task will not run, unless it runs already or has run.
  virtual void Cancel(TimerId timer) = 0;
};

// Tasks and timers that wait, shared by the two loops below.
class TaskQueue {
 public:
  void Push(EventLoop::Task task) { ready_.push_back(std::move(task)); }
  EventLoop::TimerId Arm(absl::Duration deadline, EventLoop::Task task);
  void Disarm(EventLoop::TimerId timer);

  // Moves timers due at `now` behind the ready tasks, then takes the first. Null if there is none.
  EventLoop::Task Take(absl::Duration now);
  // Of the earliest timer; InfiniteDuration() if there is none.
  absl::Duration NextDeadline() const;
  bool HasReady() const { return !ready_.empty(); }
  int64_t size() const { return static_cast<int64_t>(ready_.size() + timers_.size()); }

 private:
  std::deque<EventLoop::Task> ready_;
  absl::btree_map<std::pair<absl::Duration, EventLoop::TimerId>, EventLoop::Task> timers_;
  absl::btree_map<EventLoop::TimerId, absl::Duration> deadlines_;
  EventLoop::TimerId last_timer_ = 0;
};

class RealEventLoop final : public EventLoop {
 public:
  // `clock` must outlive the loop and run in real time.
  explicit RealEventLoop(const Clock& clock = RealClock());
  // Finishes the task that runs, drops the others, ends the thread. Not from a task.
  ~RealEventLoop() override;

  void Post(Task task) override;
  TimerId PostAfter(absl::Duration delay, Task task) override;
  void Cancel(TimerId timer) override;

  // Tasks and timers that wait.
  int64_t queued() const;

 private:
  void Run();

  const Clock& clock_;
  mutable Mutex mutex_;
  CondVar changed_;
  TaskQueue queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses what is above.
};

class FakeEventLoop final : public EventLoop {
 public:
  // `clock` must outlive the loop.
  explicit FakeEventLoop(FakeClock& clock) : clock_(clock) {}

  void Post(Task task) override;
  TimerId PostAfter(absl::Duration delay, Task task) override;
  void Cancel(TimerId timer) override;

  // Runs what is ready or due, and what those tasks post, until nothing is. Returns how many ran.
  int64_t RunReady();
  // Moves the clock by `step`, stopping at each timer on the way to run it.
  void Advance(absl::Duration step);

 private:
  Task Take();

  FakeClock& clock_;
  Mutex mutex_;
  TaskQueue queue_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_EVENT_LOOP_H_

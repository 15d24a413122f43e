// Process: one run of a program on a Machine: its event loop, and fibers in the place of threads.
//
//   ProcessLoop  tasks and timers in order, on the timeline; nothing runs while the machine is
//                stopped, and after Kill() nothing ever
//   Spawn        a function that may wait: for an answer of the network, or for time to pass
//
// A process dies with Kill(), from wherever: what it still does fails, and the world drops it later
// (Unwind() first, so that everything on its fibers' stacks is destroyed).

#ifndef DELTAWORKS_TESTS_SIMULATION_PROCESS_H_
#define DELTAWORKS_TESTS_SIMULATION_PROCESS_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "services/base/event_loop.h"
#include "tests/simulation/fiber.h"
#include "tests/simulation/machine.h"
#include "tests/simulation/timeline.h"

namespace deltaworks::simulation {

// Events that concern a process hold it by shared_ptr: it may outlive the process, dead.
class ProcessLoop final : public services::EventLoop,
                          public std::enable_shared_from_this<ProcessLoop> {
 public:
  ProcessLoop(Timeline& timeline, Machine& machine) : timeline_(timeline), machine_(machine) {}

  void Post(Task task) override;
  TimerId PostAfter(absl::Duration delay, Task task) override;
  void Cancel(TimerId timer) override;

  // Drops what waits, and whatever comes.
  void Kill();
  bool dead() const { return dead_; }

 private:
  // Sees to it that Run() is called when there is something to run.
  void Arm();
  void Run();

  Timeline& timeline_;
  Machine& machine_;
  services::TaskQueue queue_;
  absl::Duration armed_for_ = absl::InfiniteDuration();
  bool running_ = false;
  bool dead_ = false;
};

class Process {
 public:
  Process(Timeline& timeline, Machine& machine)
      : timeline_(timeline),
        machine_(machine),
        loop_(std::make_shared<ProcessLoop>(timeline, machine)) {}
  virtual ~Process() { Unwind(); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  ProcessLoop& loop() { return *loop_; }
  std::shared_ptr<ProcessLoop> shared_loop() { return loop_; }
  Timeline& timeline() { return timeline_; }
  Machine& machine() { return machine_; }
  bool dead() const { return loop_->dead(); }

  // Runs `body` on a fiber, from a task of the loop.
  void Spawn(absl::AnyInvocable<void()> body);
  // On a fiber: until Wake(), or until the process is dead.
  void Wait() {
    if (!dead()) Fiber::Suspend();
  }
  // Resumes `fiber` from a task of the loop. Callable from any event that holds the loop.
  static void Wake(ProcessLoop& loop, Fiber* fiber) {
    loop.Post([fiber] { fiber->Resume(); });
  }
  // On a fiber.
  void Sleep(absl::Duration time);

  void Kill() { loop_->Kill(); }
  // Lets every fiber run to its end, while everything it asks for fails. Kills first.
  void Unwind();

 private:
  Timeline& timeline_;
  Machine& machine_;
  const std::shared_ptr<ProcessLoop> loop_;
  std::list<Fiber> fibers_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_PROCESS_H_

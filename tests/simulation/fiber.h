// Fiber: a function on a stack of its own that can be left in the middle and gone on with later.
//
// Production code that waits for an answer (PublishArtifact, RegistryCore::CreateVersion, the calls
// of a CallPool) runs on fibers unchanged: its client suspends the fiber, time passes, other things
// happen, and the answer resumes it. Belongs to one thread.

#ifndef DELTAWORKS_TESTS_SIMULATION_FIBER_H_
#define DELTAWORKS_TESTS_SIMULATION_FIBER_H_

#include <ucontext.h>

#include "absl/functional/any_invocable.h"

namespace deltaworks::simulation {

class Fiber {
 public:
  explicit Fiber(absl::AnyInvocable<void()> body);
  // It must have ended.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs it until it suspends itself or ends. Not from a fiber.
  void Resume();
  bool done() const { return done_; }

  // The one that runs; nullptr outside of all.
  static Fiber* Current();
  // Leaves the current one until the next Resume().
  static void Suspend();

 private:
  static void Main();

  absl::AnyInvocable<void()> body_;
  void* stack_;
  ucontext_t mine_;
  ucontext_t resumer_;
  bool done_ = false;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_FIBER_H_

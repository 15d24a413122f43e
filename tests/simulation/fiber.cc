#include "tests/simulation/fiber.h"

#include <sys/mman.h>

#include <utility>
#include <vector>

#include "glog/logging.h"

namespace deltaworks::simulation {
namespace {

// Pages that are not touched cost nothing.
constexpr size_t kStackBytes = size_t{256} << 10;

thread_local Fiber* current = nullptr;

// Stacks to use again.
struct Stacks {
  ~Stacks() {
    for (void* const stack : free) munmap(stack, kStackBytes);
  }
  std::vector<void*> free;
};
thread_local Stacks stacks;

void* TakeStack() {
  if (!stacks.free.empty()) {
    void* const stack = stacks.free.back();
    stacks.free.pop_back();
    return stack;
  }
  void* const stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  PCHECK(stack != MAP_FAILED);
  return stack;
}

}  // namespace

Fiber::Fiber(absl::AnyInvocable<void()> body) : body_(std::move(body)), stack_(TakeStack()) {
  PCHECK(getcontext(&mine_) == 0);
  mine_.uc_stack.ss_sp = stack_;
  mine_.uc_stack.ss_size = kStackBytes;
  mine_.uc_link = &resumer_;
  makecontext(&mine_, &Fiber::Main, 0);
}

Fiber::~Fiber() {
  CHECK(done_) << "a fiber was dropped in the middle";
  stacks.free.push_back(stack_);
}

Fiber* Fiber::Current() { return current; }

void Fiber::Main() {
  Fiber& fiber = *current;
  fiber.body_();
  fiber.body_ = nullptr;
  fiber.done_ = true;
}

void Fiber::Resume() {
  CHECK(current == nullptr && !done_);
  current = this;
  PCHECK(swapcontext(&resumer_, &mine_) == 0);
  current = nullptr;
}

void Fiber::Suspend() {
  Fiber& fiber = *current;
  PCHECK(swapcontext(&fiber.mine_, &fiber.resumer_) == 0);
}

}  // namespace deltaworks::simulation

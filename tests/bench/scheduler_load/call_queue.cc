#include "tests/bench/scheduler_load/call_queue.h"

#include <algorithm>
#include <chrono>

namespace deltaworks::bench {
namespace {

constexpr double kLookSeconds = 0.01;

}  // namespace

double Monotonic() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

CallQueue::~CallQueue() {
  for (Call* call : under_way_) call->Cancel();
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) delete static_cast<Call*>(tag);
}

bool CallQueue::RunUntil(const std::function<bool()>& condition, absl::Duration timeout) {
  const double deadline = Monotonic() + absl::ToDoubleSeconds(timeout);
  while (!condition()) {
    const double now = Monotonic();
    if (now >= deadline) return false;
    RunOne(std::min(deadline, now + kLookSeconds));
  }
  return true;
}

void CallQueue::RunOne(double deadline) {
  const double now = Monotonic();
  if (!timers_.empty()) {
    const auto first = timers_.begin();
    if (first->first <= now) {
      Task task = std::move(first->second);
      timers_.erase(first);
      return task();
    }
    deadline = std::min(deadline, first->first);
  }
  const auto wait = std::chrono::duration<double>(deadline - now);
  void* tag = nullptr;
  bool ok = false;
  const auto next =
      queue_.AsyncNext(&tag, &ok,
                       std::chrono::system_clock::now() +
                           std::chrono::duration_cast<std::chrono::system_clock::duration>(wait));
  if (next != grpc::CompletionQueue::GOT_EVENT) return;
  const std::unique_ptr<Call> call(static_cast<Call*>(tag));
  under_way_.erase(call.get());
  call->Finished();
}

}  // namespace deltaworks::bench

#include "tests/simulation/timeline.h"

#include <algorithm>
#include <utility>

namespace deltaworks::simulation {

void Timeline::After(absl::Duration delay, Task task) {
  const int64_t delay_ns = std::max<int64_t>(0, absl::ToInt64Nanoseconds(delay));
  heap_.push_back({now_ns_ + delay_ns, ++last_number_, std::move(task)});
  std::push_heap(heap_.begin(), heap_.end());
}

bool Timeline::RunNext(absl::Duration end) {
  const int64_t end_ns = absl::ToInt64Nanoseconds(end);
  if (heap_.empty() || heap_.front().at_ns > end_ns) {
    now_ns_ = std::max(now_ns_, end_ns);
    return false;
  }
  std::pop_heap(heap_.begin(), heap_.end());
  Entry entry = std::move(heap_.back());
  heap_.pop_back();
  now_ns_ = entry.at_ns;
  ++tasks_run_;
  entry.task();
  return true;
}

}  // namespace deltaworks::simulation

// Timeline: the one order of everything that happens in a world. Time stands still while a task
// runs and then moves to the next one; tasks of one moment run in the order they were added.
// Not thread-safe.

#ifndef DELTAWORKS_TESTS_SIMULATION_TIMELINE_H_
#define DELTAWORKS_TESTS_SIMULATION_TIMELINE_H_

#include <cstdint>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"

namespace deltaworks::simulation {

class Timeline {
 public:
  using Task = absl::AnyInvocable<void()>;

  // Since the world began.
  absl::Duration now() const { return absl::Nanoseconds(now_ns_); }

  void After(absl::Duration delay, Task task);
  void At(absl::Duration when, Task task) { After(when - now(), std::move(task)); }

  // False if there is nothing before `end`; the time is then `end`.
  bool RunNext(absl::Duration end);

  int64_t tasks_run() const { return tasks_run_; }

 private:
  struct Entry {
    int64_t at_ns;
    int64_t number;
    mutable Task task;
    // A heap keeps its largest in front.
    bool operator<(const Entry& other) const {
      return at_ns != other.at_ns ? at_ns > other.at_ns : number > other.number;
    }
  };

  int64_t now_ns_ = 0;
  int64_t last_number_ = 0;
  int64_t tasks_run_ = 0;
  std::vector<Entry> heap_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_TIMELINE_H_

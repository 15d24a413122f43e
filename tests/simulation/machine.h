// Machine: a computer with a clock of its own, which can be stopped for a while.
//
// Its wall clock jumps when told. Its monotonic clock never goes back and goes on while the machine
// is stopped, as CLOCK_BOOTTIME does. Outlives the processes that run on it, one at a time.

#ifndef DELTAWORKS_TESTS_SIMULATION_MACHINE_H_
#define DELTAWORKS_TESTS_SIMULATION_MACHINE_H_

#include <algorithm>

#include "services/base/clock.h"
#include "tests/simulation/timeline.h"

namespace deltaworks::simulation {

class Machine final : public services::Clock {
 public:
  // `booted`: how long before the world it was started.
  Machine(Timeline& timeline, absl::Duration booted) : timeline_(timeline), booted_(booted) {}

  absl::Time Now() const override {
    return absl::FromUnixSeconds(1'704'067'200) + timeline_.now() + wall_error_;
  }
  absl::Duration Monotonic() const override { return timeline_.now() + booted_; }

  void JumpWallClock(absl::Duration by) { wall_error_ += by; }
  // Nothing on it runs before `until`: it is stopped, or waits for its disk.
  void StopUntil(absl::Duration until) { runs_from_ = std::max(runs_from_, until); }
  absl::Duration runs_from() const { return runs_from_; }
  bool stopped() const { return timeline_.now() < runs_from_; }

 private:
  Timeline& timeline_;
  const absl::Duration booted_;
  absl::Duration wall_error_;
  absl::Duration runs_from_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_MACHINE_H_

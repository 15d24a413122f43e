// Chaos: what breaks, and when. Each second a few things may happen; how often is the same for all
// seeds, which ones and when is the seed's.

#ifndef DELTAWORKS_TESTS_SIMULATION_CHAOS_H_
#define DELTAWORKS_TESTS_SIMULATION_CHAOS_H_

#include "tests/simulation/platform.h"

namespace deltaworks::simulation {

class Chaos {
 public:
  explicit Chaos(Platform& platform) : platform_(platform) {}

  void Start();
  // Nothing new breaks before `until`.
  void Rest(absl::Duration until) { rests_until_ = until; }
  // Nothing breaks any more; what is broken heals by itself within a minute.
  void Stop();

 private:
  void Tick();
  void DisturbServers();
  void DisturbServer(Address server);
  void DisturbWorkers();
  void CutWorker(int index);
  void Flap(int index, int times);
  void JumpSomeClock();

  bool Chance(double probability) { return platform_.random().Chance(probability); }
  absl::Duration Between(int first_s, int last_s) {
    return platform_.random().Between(absl::Seconds(first_s), absl::Seconds(last_s));
  }

  Platform& platform_;
  absl::Duration rests_until_;
  bool stopped_ = false;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_CHAOS_H_

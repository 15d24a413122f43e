// SeededRandom: where everything that a simulation leaves to chance comes from, so that one seed is
// one story. Not thread-safe: one world, one thread.

#ifndef DELTAWORKS_TESTS_SIMULATION_SEEDED_RANDOM_H_
#define DELTAWORKS_TESTS_SIMULATION_SEEDED_RANDOM_H_

#include <cstdint>
#include <random>

#include "absl/time/time.h"

namespace deltaworks::simulation {

class SeededRandom {
 public:
  explicit SeededRandom(uint64_t seed) : bits_(seed) {}

  uint64_t Bits() { return bits_(); }
  // 0 .. end - 1; `end` > 0.
  int64_t Below(int64_t end) { return static_cast<int64_t>(bits_() % static_cast<uint64_t>(end)); }
  // `probability` of 0 is never and draws nothing.
  bool Chance(double probability) {
    return probability > 0 && static_cast<double>(bits_() >> 11) * 0x1p-53 < probability;
  }
  absl::Duration Between(absl::Duration first, absl::Duration last) {
    return first + absl::Nanoseconds(Below(absl::ToInt64Nanoseconds(last - first) + 1));
  }

 private:
  std::mt19937_64 bits_;
};

}  // namespace deltaworks::simulation

#endif  // DELTAWORKS_TESTS_SIMULATION_SEEDED_RANDOM_H_

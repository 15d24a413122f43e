// ArgMax of one row (Backend::ArgMax).

#ifndef DELTAWORKS_TRAINER_BACKEND_ARG_MAX_H_
#define DELTAWORKS_TRAINER_BACKEND_ARG_MAX_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "absl/types/span.h"

namespace deltaworks::trainer {

// The place of the first of the largest numbers, of which NaN is none; 0 if there is no number.
template <typename Real>
int32_t ArgMax(absl::Span<const Real> x) {
  // Side by side, since each comparison waits for the one before.
  constexpr size_t kLanes = 8;
  Real largest[kLanes];
  std::fill_n(largest, kLanes, -std::numeric_limits<Real>::infinity());
  const size_t whole = x.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const Real value = x[i + lane];
      largest[lane] = value > largest[lane] ? value : largest[lane];
    }
  }
  Real best = *std::max_element(largest, largest + kLanes);
  for (const Real value : x.subspan(whole)) best = value > best ? value : best;
  const auto found = std::find(x.begin(), x.end(), best);
  return found == x.end() ? 0 : static_cast<int32_t>(found - x.begin());
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_ARG_MAX_H_

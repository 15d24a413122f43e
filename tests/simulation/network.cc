#include "tests/simulation/network.h"

#include <algorithm>
#include <utility>

namespace deltaworks::simulation {
namespace {

constexpr absl::Duration kTogether = absl::Milliseconds(100);

}  // namespace

Network::Network(Timeline& timeline, SeededRandom& random, FaultCounts& counts, int workers)
    : timeline_(timeline),
      random_(random),
      counts_(counts),
      addresses_(kFirstWorker + workers),
      cut_until_(static_cast<size_t>(addresses_) * addresses_) {}

void Network::Cut(int from, int to, absl::Duration until) {
  CutUntil(from, to) = std::max(CutUntil(from, to), until);
}

void Network::Send(int from, int to, std::function<void()> deliver) {
  ++sent_;
  if (timeline_.now() < CutUntil(from, to)) return counts_.Count("message into a cut wire");
  // Servers are near to each other, and one bad wire there would hold up everybody.
  const bool near = from < kFirstWorker && to < kFirstWorker;
  const double scale = near ? 0.2 : 1;
  if (random_.Chance(scale * rates_.loss)) return counts_.Count("lost message");
  absl::Duration delay = random_.Between(absl::Milliseconds(1), absl::Milliseconds(10));
  if (random_.Chance(scale * rates_.late)) {
    counts_.Count("late message");
    delay = random_.Between(absl::Milliseconds(10), absl::Seconds(60));
  }
  // What comes from many at about the same time comes together, so that it costs one turn.
  const absl::Duration arrival = timeline_.now() + delay;
  const bool repeats = random_.Chance(scale * rates_.repeat);
  std::function<void()> again;
  if (repeats) again = deliver;
  timeline_.At(near ? arrival : absl::Ceil(arrival, kTogether), std::move(deliver));
  if (!repeats) return;
  counts_.Count("repeated message");
  timeline_.After(random_.Between(absl::Milliseconds(1), absl::Seconds(60)), std::move(again));
}

}  // namespace deltaworks::simulation

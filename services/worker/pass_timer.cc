#include "services/worker/pass_timer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/time/time.h"

namespace deltaworks::services {

// What is known of the pass's base, moved to the front.
PassTimer::Sums& PassTimer::Front(const PassMeasure& pass) {
  const auto found = std::find_if(bases_.begin(), bases_.end(), [&](const Sums& sums) {
    return sums.base_manifest_digest == pass.base_manifest_digest &&
           sums.compute_type == pass.compute_type;
  });
  Sums sums = {.base_manifest_digest = pass.base_manifest_digest,
               .compute_type = pass.compute_type};
  if (found != bases_.end()) {
    sums = std::move(*found);
    bases_.erase(found);
  } else if (bases_.size() == kBasesMax) {
    bases_.pop_back();
  }
  bases_.push_front(std::move(sums));
  return bases_.front();
}

void PassTimer::Add(const PassMeasure& pass) {
  const auto tokens = static_cast<double>(pass.tokens);
  const double seconds = absl::ToDoubleSeconds(pass.duration);
  if (tokens <= 0 || seconds <= 0) return;
  Sums& sums = Front(pass);
  const double fade = std::exp2(-1 / kHalfLife);
  sums.weight = fade * sums.weight + 1;
  sums.tokens = fade * sums.tokens + tokens;
  sums.seconds = fade * sums.seconds + seconds;
  sums.tokens_tokens = fade * sums.tokens_tokens + tokens * tokens;
  sums.tokens_seconds = fade * sums.tokens_seconds + tokens * seconds;
}

v1::PassTime PassTimer::FitOf(const Sums& sums) {
  // With the pass that is made up.
  const double weight = sums.weight + 1;
  const double tokens = sums.tokens - kFixedTokens;
  const double tokens_tokens = sums.tokens_tokens + kFixedTokens * kFixedTokens;
  // Not 0: the pass made up has another size than all others.
  double per_token = (weight * sums.tokens_seconds - tokens * sums.seconds) /
                     (weight * tokens_tokens - tokens * tokens);
  double fixed = (sums.seconds - per_token * tokens) / weight;
  if (fixed < 0) {  // The best line of those through 0.
    fixed = 0;
    per_token = sums.tokens_seconds / sums.tokens_tokens;
  } else if (per_token <= 0) {  // Noise: the means, and what is known beforehand.
    per_token = sums.seconds / (sums.tokens + sums.weight * kFixedTokens);
    fixed = kFixedTokens * per_token;
  }
  v1::PassTime time;
  time.set_base_manifest_digest(sums.base_manifest_digest);
  time.set_compute_type(sums.compute_type);
  time.set_fixed_seconds(fixed);
  time.set_seconds_per_token(per_token);
  return time;
}

void PassTimer::AppendTo(v1::SyncRequest* request) const {
  for (const Sums& sums : bases_) *request->add_pass_times() = FitOf(sums);
}

}  // namespace deltaworks::services

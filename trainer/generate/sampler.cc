#include "trainer/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "trainer/backend/arg_max.h"
#include "trainer/backend/philox.h"

namespace deltaworks::trainer {
namespace {

// The likeliest first; equal logits in order of their ids, so that the order is total.
struct Candidate {
  float logit;
  int32_t id;

  bool operator<(const Candidate& other) const {
    return logit != other.logit ? logit > other.logit : id < other.id;
  }
};

// Candidates in order, sorted no further than somebody looks: most often a few of a vocabulary.
class Ranking {
 public:
  Ranking(absl::Span<const float> logits, int64_t top_k) {
    for (size_t i = 0; i < logits.size(); ++i) {
      if (!std::isnan(logits[i])) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
    }
    if (top_k == 0 || top_k >= std::ssize(candidates_)) return;
    SortUpTo(top_k);
    candidates_.resize(top_k);
  }

  // Those that were sorted first, the others by their ids.
  const std::vector<Candidate>& all() const { return candidates_; }
  const Candidate& At(size_t i) {
    if (i >= sorted_) SortUpTo(std::min(candidates_.size(), std::max<size_t>(64, 4 * i)));
    return candidates_[i];
  }

 private:
  void SortUpTo(size_t count) {
    const auto begin = candidates_.begin() + static_cast<int64_t>(sorted_);
    const auto end = candidates_.begin() + static_cast<int64_t>(count);
    if (end != candidates_.end()) std::nth_element(begin, end, candidates_.end());
    std::sort(begin, end);
    sorted_ = count;
  }

  std::vector<Candidate> candidates_;
  size_t sorted_ = 0;
};

// Uniform in [0, 1).
double Uniform(uint64_t seed, int64_t number) {
  const PhiloxWords words = Philox4x32(
      seed, {static_cast<uint32_t>(number), kSamplingSite, static_cast<uint32_t>(number >> 32), 0});
  return ((uint64_t{words[0]} << 21) ^ (words[1] >> 11)) * 0x1p-53;
}

}  // namespace

absl::Status CheckSamplingConfig(const SamplingConfig& config) {
  if (!(config.temperature >= 0 && config.temperature <= 100)) {
    return absl::InvalidArgumentError(
        absl::StrCat("temperature is ", config.temperature, ", want 0..100"));
  }
  if (!(config.top_p > 0 && config.top_p <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_p is ", config.top_p, ", want 0 < top_p <= 1"));
  }
  if (config.top_k < 0) {
    return absl::InvalidArgumentError(absl::StrCat("top_k is ", config.top_k, ", want >= 0"));
  }
  return absl::OkStatus();
}

int32_t SampleToken(absl::Span<const float> logits, const SamplingConfig& config, int64_t number) {
  const int32_t best = ArgMax(logits);
  if (config.temperature == 0 || !std::isfinite(logits[best])) return best;
  Ranking ranking(logits, config.top_k);
  const auto weight = [&](const Candidate& candidate) {
    return std::exp((double{candidate.logit} - logits[best]) / config.temperature);
  };
  double kept = 0;
  for (const Candidate& candidate : ranking.all()) kept += weight(candidate);
  size_t count = ranking.all().size();
  if (config.top_p < 1) {
    const double wanted = config.top_p * std::exchange(kept, 0);
    size_t likeliest = 0;
    while (likeliest < count && (likeliest == 0 || kept < wanted)) {
      kept += weight(ranking.At(likeliest++));
    }
    count = likeliest;
  }
  double target = Uniform(config.seed, number) * kept;
  for (size_t i = 0; i + 1 < count; ++i) {
    target -= weight(ranking.At(i));
    if (target < 0) return ranking.At(i).id;
  }
  return ranking.At(count - 1).id;
}

}  // namespace deltaworks::trainer

#include "trainer/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "trainer/backend/philox.h"

namespace deltaworks::trainer {
namespace {

int32_t Largest(absl::Span<const float> logits) {
  int32_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i) {
    const bool first_number = std::isnan(logits[best]) && !std::isnan(logits[i]);
    if (logits[i] > logits[best] || first_number) best = static_cast<int32_t>(i);
  }
  return best;
}

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
  const int32_t best = Largest(logits);
  if (config.temperature == 0 || !std::isfinite(logits[best])) return best;
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::erase_if(order, [&](int32_t id) { return std::isnan(logits[id]); });
  // Equal logits in order of their ids, so that the order is total.
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  if (config.top_k > 0 && config.top_k < static_cast<int64_t>(order.size())) {
    order.resize(config.top_k);
  }
  std::vector<double> weights;
  double total = 0;
  for (const int32_t id : order) {
    weights.push_back(std::exp((double{logits[id]} - logits[best]) / config.temperature));
    total += weights.back();
  }
  double kept = 0;
  size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < config.top_p * total)) {
    kept += weights[count++];
  }
  double target = Uniform(config.seed, number) * kept;
  for (size_t i = 0; i + 1 < count; ++i) {
    target -= weights[i];
    if (target < 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace deltaworks::trainer

// Sampler: the next token from logits. A pure function of the logits, the settings, the seed and
// the token's number, so the same request gives the same answer whoever else is served.

#ifndef DELTAWORKS_TRAINER_GENERATE_SAMPLER_H_
#define DELTAWORKS_TRAINER_GENERATE_SAMPLER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace deltaworks::trainer {

struct SamplingConfig {
  double temperature = 0;  // 0: greedy, the first of the largest logits. At most 100.
  double top_p = 1;   // Keep the likeliest tokens up to this probability (Holtzman et al. 2020).
  int64_t top_k = 0;  // Keep so many of the likeliest; 0: all.
  uint64_t seed = 0;
};

// InvalidArgument naming the field, its value and its bounds.
absl::Status CheckSamplingConfig(const SamplingConfig& config);

// `number`: how many tokens the stream has generated before. Logits that are all NaN give token 0.
int32_t SampleToken(absl::Span<const float> logits, const SamplingConfig& config, int64_t number);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_GENERATE_SAMPLER_H_

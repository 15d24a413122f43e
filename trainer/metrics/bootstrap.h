// Paired bootstrap (Efron 1979): how sure is it that one of two systems scores higher?
//
// Both systems are scored on the same examples. The mean difference is recomputed on
// `resample_count` lists of examples drawn with replacement; the interval holds the middle
// `confidence` of these means. An interval that lies above 0 says that the gain is not an
// accident of the examples chosen.
//
// A pure function of its arguments, the seed included: the same bits everywhere. Thread-safe.

#ifndef DELTAWORKS_TRAINER_METRICS_BOOTSTRAP_H_
#define DELTAWORKS_TRAINER_METRICS_BOOTSTRAP_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace deltaworks::trainer {

struct BootstrapOptions {
  int64_t resample_count = 10'000;  // 1..1,000,000.
  double confidence = 0.95;         // Between 0 and 1, both excluded.
  uint64_t seed = 0;
};

struct MeanDifference {
  double mean = 0;  // Mean over the examples of (other - base).
  double low = 0;   // Ends of the interval, percentiles interpolated linearly.
  double high = 0;
};

// Element i of each list is the score of example i.
// InvalidArgument: the lists are empty or differ in length, a score is not finite, an option is
// outside its range.
absl::StatusOr<MeanDifference> PairedBootstrap(absl::Span<const double> base,
                                               absl::Span<const double> other,
                                               const BootstrapOptions& options = {});

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_METRICS_BOOTSTRAP_H_

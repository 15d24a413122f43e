#include "trainer/metrics/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "trainer/backend/philox.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kResampleCountMax = 1'000'000;
constexpr int64_t kExampleCountMax = int64_t{1} << 31;  // An index is drawn from 32 bits.

absl::Status Validate(absl::Span<const double> base, absl::Span<const double> other,
                      const BootstrapOptions& options) {
  if (base.empty() || base.size() != other.size() || base.size() > kExampleCountMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the lists of scores have ", base.size(), " and ", other.size(),
                     " elements, want equal lengths of 1..", kExampleCountMax));
  }
  for (size_t i = 0; i < base.size(); ++i) {
    if (!std::isfinite(base[i]) || !std::isfinite(other[i])) {
      return absl::InvalidArgumentError(absl::StrCat("the scores of example ", i, " are ", base[i],
                                                     " and ", other[i], ", want finite numbers"));
    }
  }
  if (options.resample_count < 1 || options.resample_count > kResampleCountMax) {
    return absl::InvalidArgumentError(absl::StrCat("resample_count is ", options.resample_count,
                                                   ", want 1..", kResampleCountMax));
  }
  if (!(options.confidence > 0 && options.confidence < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("confidence is ", options.confidence, ", want more than 0 and less than 1"));
  }
  return absl::OkStatus();
}

double Mean(absl::Span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// Draw i of a resample is word i % 4 of the block with counter {resample, site, 0, i / 4}, scaled
// to an index by its upper bits.
double ResampledMean(absl::Span<const double> values, uint64_t seed, uint32_t resample) {
  double sum = 0;
  PhiloxWords words{};
  for (size_t i = 0; i < values.size(); ++i) {
    if (i % 4 == 0) {
      words = Philox4x32(seed, {resample, kBootstrapSite, 0, static_cast<uint32_t>(i / 4)});
    }
    sum += values[(uint64_t{words[i % 4]} * values.size()) >> 32];
  }
  return sum / static_cast<double>(values.size());
}

// The value at `share` (0..1) of a sorted list, between neighbours in proportion.
double Percentile(absl::Span<const double> sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - static_cast<double>(below));
}

}  // namespace

absl::StatusOr<MeanDifference> PairedBootstrap(absl::Span<const double> base,
                                               absl::Span<const double> other,
                                               const BootstrapOptions& options) {
  DW_RETURN_IF_ERROR(Validate(base, other, options));
  std::vector<double> differences(base.size());
  for (size_t i = 0; i < base.size(); ++i) differences[i] = other[i] - base[i];

  std::vector<double> means(options.resample_count);
  for (size_t i = 0; i < means.size(); ++i) {
    means[i] = ResampledMean(differences, options.seed, static_cast<uint32_t>(i));
  }
  std::sort(means.begin(), means.end());
  const double tail = (1 - options.confidence) / 2;
  return MeanDifference{.mean = Mean(differences),
                        .low = Percentile(means, tail),
                        .high = Percentile(means, 1 - tail)};
}

}  // namespace deltaworks::trainer

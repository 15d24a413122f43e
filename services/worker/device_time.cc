#include "services/worker/device_time.h"

#include "absl/numeric/int128.h"

namespace deltaworks::services {
namespace {

// Tokens, parameters and nanoseconds of any pass have 28, 44 and 50 bits at most.
absl::int128 Flops(int64_t base_parameters, const PassPart& part) {
  const absl::int128 by_token = part.evaluated
                                    ? 2 * base_parameters + 2 * part.trainable_parameters
                                    : 4 * base_parameters + 6 * part.trainable_parameters;
  return part.tokens * by_token;
}

}  // namespace

std::vector<absl::Duration> DeviceTimeShares(absl::Duration pass, int64_t base_parameters,
                                             absl::Span<const PassPart> parts) {
  absl::int128 all = 0;
  for (const PassPart& part : parts) all += Flops(base_parameters, part);
  std::vector<absl::Duration> shares(parts.size());
  if (all == 0) return shares;
  // Each gets what lies between two rounded sums, so nothing is lost.
  const absl::int128 nanoseconds = absl::ToInt64Nanoseconds(pass);
  absl::int128 flops = 0;
  int64_t shared = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    flops += Flops(base_parameters, parts[i]);
    const auto so_far = static_cast<int64_t>(nanoseconds * flops / all);
    shares[i] = absl::Nanoseconds(so_far - shared);
    shared = so_far;
  }
  return shares;
}

}  // namespace deltaworks::services

#include "services/cli/local/restart_policy.h"

#include <algorithm>

namespace deltaworks::services {
namespace {

constexpr int kExitWrongSettings = 2;

}  // namespace

std::optional<absl::Duration> RestartPolicy::Ended(const ProcessExit& exit, absl::Duration now) {
  if (exit.signal == 0 && exit.code == kExitWrongSettings) return std::nullopt;
  if (now - started_at_ >= options_.steady_after) next_delay_ = options_.delay_min;
  const absl::Duration delay = next_delay_;
  next_delay_ = std::min(next_delay_ * 2, options_.delay_max);
  return delay;
}

}  // namespace deltaworks::services

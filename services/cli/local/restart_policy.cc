#include "services/cli/local/restart_policy.h"

#include <algorithm>

#include "services/base/service_exit.h"

namespace deltaworks::services {

std::optional<absl::Duration> RestartPolicy::Ended(const ProcessExit& exit, absl::Duration now) {
  if (exit.signal == 0 && exit.code == kExitUsage) return std::nullopt;
  if (now - started_at_ >= options_.steady_after) next_delay_ = options_.delay_min;
  const absl::Duration delay = next_delay_;
  next_delay_ = std::min(next_delay_ * 2, options_.delay_max);
  return delay;
}

}  // namespace deltaworks::services

// Fair share: whose turn it is.
//
// A tenant's standing is what it used lately, in device-seconds, over its weight; the least goes
// first. An attempt that is running counts at once for attempt_charge, so that one plan which gives
// many devices away alternates between tenants, and none takes all before its first second is
// counted. A tenant on fewer devices than it is guaranteed goes before all that are not. Pure
// functions.

#ifndef DELTAWORKS_SCHEDULER_FAIR_SHARE_H_
#define DELTAWORKS_SCHEDULER_FAIR_SHARE_H_

#include <cstdint>
#include <limits>

#include "absl/time/time.h"

namespace deltaworks::scheduler {

struct TenantShare {
  double weight = 1;  // > 0.
  int64_t guaranteed_devices = 0;
  int64_t limit_devices = std::numeric_limits<int64_t>::max();
  // Lately: see Usage::Decayed.
  double used_seconds = 0;
  int64_t attempts = 0;
  // That its attempts are on.
  int64_t devices = 0;

  bool below_guaranteed() const { return devices < guaranteed_devices; }
  bool at_limit() const { return devices >= limit_devices; }
};

// In device-seconds over weight.
double Standing(const TenantShare& share, absl::Duration attempt_charge);

// True if `a` goes before `b`; neither before the other: their heads' keys decide.
bool GoesBefore(const TenantShare& a, const TenantShare& b, absl::Duration attempt_charge);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_FAIR_SHARE_H_

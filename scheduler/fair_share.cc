#include "scheduler/fair_share.h"

namespace deltaworks::scheduler {

double Standing(const TenantShare& share, absl::Duration attempt_charge) {
  return (share.used_seconds +
          static_cast<double>(share.attempts) * absl::ToDoubleSeconds(attempt_charge)) /
         share.weight;
}

bool GoesBefore(const TenantShare& a, const TenantShare& b, absl::Duration attempt_charge) {
  if (a.below_guaranteed() != b.below_guaranteed()) return a.below_guaranteed();
  return Standing(a, attempt_charge) < Standing(b, attempt_charge);
}

}  // namespace deltaworks::scheduler

// Usage: what each tenant used, by hour and by day.
//
// Integers, in rows that only grow, so that any order of replay gives the same. How much of it
// still counts against a tenant's fair share is computed when asked and never stored: an amount
// counts half for every half-life that has passed since its hour. Pure state, part of State.

#ifndef DELTAWORKS_SCHEDULER_USAGE_H_
#define DELTAWORKS_SCHEDULER_USAGE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/event.pb.h"

namespace deltaworks::scheduler {

class Usage {
 public:
  struct Amount {
    int64_t device_ms = 0;
    int64_t tokens = 0;
    int64_t written_bytes = 0;
  };
  // By hours or days since 1970-01-01 UTC.
  using Rows = absl::btree_map<int64_t, Amount>;

  // Rows are kept for so long after the tenant's newest.
  static constexpr int64_t kHoursKept = 8 * 24;
  static constexpr int64_t kDaysKept = 400;

  void Add(absl::string_view tenant, const Amount& amount, absl::Time time);

  // Device seconds of `tenant` as they count at `now`.
  double Decayed(absl::string_view tenant, absl::Time now, absl::Duration half_life) const;

  // Those that used anything, by name.
  std::vector<std::string> Tenants() const;
  // nullptr if the tenant never used anything.
  const Rows* Days(absl::string_view tenant) const;

  // By tenant.
  void AppendTo(google::protobuf::RepeatedPtrField<TenantUsage>* usage) const;
  void Restore(const TenantUsage& usage);
  // One tenant's rows.
  TenantUsage Of(absl::string_view tenant) const;

 private:
  struct Tenant {
    Rows hours;
    Rows days;
    // Of Decayed, as of an hour; a change of the rows voids it.
    mutable int64_t decayed_hour = -1;
    mutable absl::Duration decayed_half_life;
    mutable double decayed_seconds = 0;
  };

  absl::btree_map<std::string, Tenant> tenants_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_USAGE_H_

#include "scheduler/lease_table.h"

#include <algorithm>
#include <utility>

#include "glog/logging.h"

namespace deltaworks::scheduler {

void LeaseTable::Grant(Lease lease, absl::Time now) {
  lease.expires_at = now + lease_duration_;
  lease.heard_at = now;
  const std::string job = lease.job;
  deadlines_.emplace(lease.expires_at, job);
  CHECK(leases_.emplace(job, std::move(lease)).second) << job << " holds a lease already";
}

void LeaseTable::SetDesired(absl::string_view job, v1::Assignment::Desired desired) {
  const auto found = leases_.find(job);
  CHECK(found != leases_.end()) << job << " holds no lease";
  found->second.desired = desired;
}

void LeaseTable::End(absl::string_view job) {
  const auto found = leases_.find(job);
  CHECK(found != leases_.end()) << job << " holds no lease";
  deadlines_.erase({found->second.expires_at, found->first});
  leases_.erase(found);
}

const Lease* LeaseTable::Find(absl::string_view job, int64_t lease_epoch,
                              absl::string_view attempt_id) const {
  const auto found = leases_.find(job);
  if (found == leases_.end() || found->second.lease_epoch != lease_epoch ||
      found->second.attempt_id != attempt_id) {
    return nullptr;
  }
  return &found->second;
}

Lease* LeaseTable::FindMutable(absl::string_view job, int64_t lease_epoch,
                               absl::string_view attempt_id) {
  return Find(job, lease_epoch, attempt_id) == nullptr ? nullptr : &leases_.find(job)->second;
}

bool LeaseTable::Hear(absl::string_view job, int64_t lease_epoch, absl::string_view attempt_id,
                      absl::Time received_at) {
  Lease* lease = FindMutable(job, lease_epoch, attempt_id);
  if (lease == nullptr) return false;
  lease->heard_at = std::max(lease->heard_at, received_at);
  return true;
}

bool LeaseTable::Renew(absl::string_view job, int64_t lease_epoch, absl::string_view attempt_id,
                       absl::Time received_at) {
  Lease* lease = FindMutable(job, lease_epoch, attempt_id);
  if (lease == nullptr) return false;
  const absl::Time deadline = received_at + lease_duration_;
  if (deadline <= lease->expires_at) return true;
  deadlines_.erase({lease->expires_at, lease->job});
  lease->expires_at = deadline;
  deadlines_.emplace(deadline, lease->job);
  return true;
}

void LeaseTable::Reconcile(const std::vector<Lease>& attempts, absl::Time now,
                           absl::Time first_deadline) {
  absl::btree_map<std::string, Lease> kept;
  for (const Lease& attempt : attempts) {
    Lease& lease = kept[attempt.job];
    lease = attempt;
    if (const Lease* known = Find(attempt.job, attempt.lease_epoch, attempt.attempt_id)) {
      lease.expires_at = known->expires_at;
      lease.heard_at = known->heard_at;
    } else {
      lease.expires_at = first_deadline;
      lease.heard_at = now;
    }
  }
  leases_ = std::move(kept);
  deadlines_.clear();
  for (const auto& [job, lease] : leases_) deadlines_.emplace(lease.expires_at, job);
}

std::vector<Lease> LeaseTable::Expired(absl::Time now) const {
  std::vector<Lease> expired;
  for (const auto& [deadline, job] : deadlines_) {
    if (deadline > now) break;
    expired.push_back(leases_.at(job));
  }
  std::sort(expired.begin(), expired.end(),
            [](const Lease& a, const Lease& b) { return a.job < b.job; });
  return expired;
}

absl::Time LeaseTable::NextDeadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
}

}  // namespace deltaworks::scheduler

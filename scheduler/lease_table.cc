#include "scheduler/lease_table.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "glog/logging.h"

namespace deltaworks::scheduler {

void LeaseTable::Grant(Lease lease, absl::Time now) {
  lease.expires_at = now + lease_duration_;
  lease.heard_at = now;
  const Key key(lease.job, lease.worker);
  deadlines_.emplace(lease.expires_at, key);
  CHECK(leases_.emplace(key, std::move(lease)).second)
      << key.first << " holds a lease on " << key.second << " already";
}

void LeaseTable::SetDesired(absl::string_view job, v1::Assignment::Desired desired) {
  auto lease = leases_.lower_bound(Key(job, ""));
  CHECK(lease != leases_.end() && lease->first.first == job) << job << " holds no lease";
  for (; lease != leases_.end() && lease->first.first == job; ++lease) {
    lease->second.desired = desired;
  }
}

LeaseTable::Leases::iterator LeaseTable::Erase(Leases::iterator lease) {
  deadlines_.erase({lease->second.expires_at, lease->first});
  return leases_.erase(lease);
}

void LeaseTable::End(absl::string_view job) {
  auto lease = leases_.lower_bound(Key(job, ""));
  CHECK(lease != leases_.end() && lease->first.first == job) << job << " holds no lease";
  while (lease != leases_.end() && lease->first.first == job) lease = Erase(lease);
}

void LeaseTable::EndOn(absl::string_view job, absl::string_view worker) {
  const auto lease = leases_.find(Key(job, worker));
  CHECK(lease != leases_.end()) << job << " holds no lease on " << worker;
  Erase(lease);
}

const Lease* LeaseTable::Find(absl::string_view worker, absl::string_view job, int64_t lease_epoch,
                              absl::string_view attempt_id) const {
  const auto found = leases_.find(Key(job, worker));
  if (found == leases_.end() || found->second.lease_epoch != lease_epoch ||
      found->second.attempt_id != attempt_id) {
    return nullptr;
  }
  return &found->second;
}

Lease* LeaseTable::FindMutable(absl::string_view worker, absl::string_view job, int64_t lease_epoch,
                               absl::string_view attempt_id) {
  return Find(worker, job, lease_epoch, attempt_id) == nullptr
             ? nullptr
             : &leases_.find(Key(job, worker))->second;
}

bool LeaseTable::Hear(absl::string_view worker, absl::string_view job, int64_t lease_epoch,
                      absl::string_view attempt_id, absl::Time received_at) {
  Lease* lease = FindMutable(worker, job, lease_epoch, attempt_id);
  if (lease == nullptr) return false;
  lease->heard_at = std::max(lease->heard_at, received_at);
  return true;
}

bool LeaseTable::Renew(absl::string_view worker, absl::string_view job, int64_t lease_epoch,
                       absl::string_view attempt_id, absl::Time received_at) {
  Lease* lease = FindMutable(worker, job, lease_epoch, attempt_id);
  if (lease == nullptr) return false;
  const absl::Time deadline = received_at + lease_duration_;
  if (deadline <= lease->expires_at) return true;
  const Key key(lease->job, lease->worker);
  deadlines_.erase({lease->expires_at, key});
  lease->expires_at = deadline;
  deadlines_.emplace(deadline, key);
  return true;
}

void LeaseTable::Reconcile(const std::vector<Lease>& attempts, absl::Time now,
                           absl::Time first_deadline) {
  Leases kept;
  for (const Lease& attempt : attempts) {
    Lease& lease = kept[Key(attempt.job, attempt.worker)];
    lease = attempt;
    if (const Lease* known =
            Find(attempt.worker, attempt.job, attempt.lease_epoch, attempt.attempt_id)) {
      lease.expires_at = known->expires_at;
      lease.heard_at = known->heard_at;
    } else {
      lease.expires_at = first_deadline;
      lease.heard_at = now;
    }
  }
  leases_ = std::move(kept);
  deadlines_.clear();
  for (const auto& [key, lease] : leases_) deadlines_.emplace(lease.expires_at, key);
}

std::vector<Lease> LeaseTable::Expired(absl::Time now) const {
  std::vector<Lease> expired;
  for (const auto& [deadline, key] : deadlines_) {
    if (deadline > now) break;
    expired.push_back(leases_.at(key));
  }
  std::sort(expired.begin(), expired.end(), [](const Lease& a, const Lease& b) {
    return std::tie(a.job, a.worker) < std::tie(b.job, b.worker);
  });
  return expired;
}

absl::Time LeaseTable::NextDeadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
}

}  // namespace deltaworks::scheduler

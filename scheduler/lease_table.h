// LeaseTable: until when each attempt may run. Each worker of a gang has a lease of its own.
//
// A lease is a promise with a deadline: a worker that stops renewing loses its device at the
// deadline without anybody having to notice that it died. The table holds exactly the attempts of
// the last COMMITTED state: it is told of grants, orders and ends after their commit, lives beside
// the core and survives its reload. An attempt may renew until its end was committed, also after
// the deadline, as long as nobody acted on it.
//
// The worker counts from when it sent the report that was answered, this table from when the
// report was received, so a worker's lease ends first. Deadlines are not durable: after a start
// every attempt gets one full lease and a grace.
//
// Pure state: no clock, time is an argument. Not thread-safe.

#ifndef DELTAWORKS_SCHEDULER_LEASE_TABLE_H_
#define DELTAWORKS_SCHEDULER_LEASE_TABLE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.pb.h"

namespace deltaworks::scheduler {

struct Lease {
  std::string job;
  int64_t lease_epoch = 0;  // 1 for the first grant of a job; never reused.
  std::string attempt_id;   // Random: unique also where epochs come again.
  std::string worker;
  v1::Assignment::Desired desired = v1::Assignment::RUN;  // As committed.
  absl::Time expires_at;
  // When a report last listed it; the grant, before one did.
  absl::Time heard_at;
};

class LeaseTable {
 public:
  explicit LeaseTable(absl::Duration lease_duration) : lease_duration_(lease_duration) {}

  // Grants `lease` one lease from `now` (its times are ignored). An earlier one of the job on this
  // worker must be ended.
  void Grant(Lease lease, absl::Time now);

  // What the job's attempt was told, for answers while the core is loaded again.
  void SetDesired(absl::string_view job, v1::Assignment::Desired desired);

  // Forgets the job's attempt.
  void End(absl::string_view job);
  // Forgets that `worker` has part in it.
  void EndOn(absl::string_view job, absl::string_view worker);

  // What `worker` has of this very attempt, nullptr if its end was committed or it never was.
  const Lease* Find(absl::string_view worker, absl::string_view job, int64_t lease_epoch,
                    absl::string_view attempt_id) const;

  // A report received at `received_at` listed the attempt. False if it is not there.
  bool Hear(absl::string_view worker, absl::string_view job, int64_t lease_epoch,
            absl::string_view attempt_id, absl::Time received_at);

  // Extends the deadline to received_at + lease_duration; never shortens it. False if the attempt
  // is not there: it must stop.
  bool Renew(absl::string_view worker, absl::string_view job, int64_t lease_epoch,
             absl::string_view attempt_id, absl::Time received_at);

  // Makes the table hold exactly `attempts`: those it knows keep their deadlines, others get
  // `first_deadline`, and those not named are forgotten. After a start, or a reload of the core.
  void Reconcile(const std::vector<Lease>& attempts, absl::Time now, absl::Time first_deadline);

  // Leases with expires_at <= now, by job and worker. Idempotent.
  std::vector<Lease> Expired(absl::Time now) const;

  // The first deadline; InfiniteFuture if there is none.
  absl::Time NextDeadline() const;

  int64_t size() const { return static_cast<int64_t>(leases_.size()); }

 private:
  using Key = std::pair<std::string, std::string>;  // Job, worker.
  using Leases = absl::btree_map<Key, Lease>;

  Leases::iterator Erase(Leases::iterator lease);
  Lease* FindMutable(absl::string_view worker, absl::string_view job, int64_t lease_epoch,
                     absl::string_view attempt_id);

  const absl::Duration lease_duration_;
  // Ordered, so that iteration, and therefore a simulation, is deterministic.
  Leases leases_;
  // Of each its deadline and key.
  absl::btree_set<std::pair<absl::Time, Key>> deadlines_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_LEASE_TABLE_H_

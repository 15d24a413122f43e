// Pins: drops what jobs no longer need from the store.
//
// Workers pin each checkpoint and result with the job as owner. A checkpoint that a newer one
// superseded is unpinned once the newer one is committed; when a job ends, everything but its kept
// checkpoints is. A crash between leaves a pin too many, never one too few: once a day the pins of
// every job that no worker holds are compared with what it needs, both ways. Pins whose job is not
// known here are left alone: this may be a database restored from a backup.
//
// One call at a time. Lives on the loop; calls run on the pool. A store that is away is asked
// again.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_PINS_H_
#define DELTAWORKS_SERVICES_SCHEDULER_PINS_H_

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/event.pb.h"
#include "scheduler/state.h"
#include "services/base/event_loop.h"
#include "services/clients/store_client.h"
#include "services/scheduler/call_pool.h"
#include "services/scheduler/metrics.h"

namespace deltaworks::services {

class Pins {
 public:
  struct Options {
    absl::Duration period = absl::Hours(24);
    // After a look that failed.
    absl::Duration retry = absl::Minutes(1);
  };

  // References must outlive this and the pool's calls.
  Pins(const Options& options, EventLoop& loop, CallPool& pool, StoreClient& store,
       SchedulerMetrics& metrics);

  // `event` was committed; `state` is as of its commit.
  void Committed(const scheduler::Event& event, const scheduler::State& state);
  // Goes on with what waits. `state` is committed.
  void Start(const scheduler::State& state, absl::Time now);

  int64_t waiting() const { return static_cast<int64_t>(drops_.size() + looks_.size()); }

 private:
  struct Drop {
    std::string job;
    std::string digest;
  };

  // By owner.
  using Pinned = absl::btree_map<std::string, std::vector<std::string>>;

  static absl::StatusOr<Pinned> List(StoreClient& store, const std::string& look);
  void Reconcile(const scheduler::State& state);
  void Next();
  void RunDrop(Drop drop);
  void RunLook(const std::string& look);
  // What the store has, seen by `look`.
  void Compare(const std::string& look, const Pinned& pinned, const scheduler::State& state);
  void CompareJob(const scheduler::JobRecord& record, const std::vector<std::string>& pinned);
  void Repin(const std::string& job, const std::string& digest);
  // After a call.
  void Failed(absl::string_view what, const std::string& job, const absl::Status& status);

  const Options options_;
  EventLoop& loop_;
  CallPool& pool_;
  StoreClient& store_;
  SchedulerMetrics& metrics_;

  // Kept checkpoints of jobs that are not final, as last seen.
  absl::btree_map<std::string, std::vector<std::string>> kept_;
  std::deque<Drop> drops_;
  // A job's name, or "tenants/{tenant}/jobs/" for all of a tenant.
  absl::btree_set<std::string> looks_;
  // Answers of looks, for the next Start, which has a committed state.
  absl::btree_map<std::string, Pinned> seen_;
  bool under_way_ = false;
  absl::Time not_before_ = absl::InfinitePast();
  absl::Time next_reconcile_ = absl::InfinitePast();
  absl::Time now_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_PINS_H_

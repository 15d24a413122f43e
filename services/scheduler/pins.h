// Pins: drops what jobs no longer need from the store.
//
// Workers pin each checkpoint and result with the job as owner. A checkpoint that a newer one
// superseded is unpinned once the newer one is committed; when a job ends, everything but its kept
// checkpoints is. A crash between leaves a pin too many, never one too few. Once a day the pins of
// every job are compared with what it needs: what is missing is pinned, and what is too many is
// dropped, unless a worker holds the job and may just have pinned what it reports later. Pins whose
// job is not known here are left alone: this may be a database restored from a backup.
//
// One call at a time, for what the committed state of that moment still wants; what was committed
// while its pin was dropped is pinned again. Pinned during such a call and committed after it, it
// has no pin until the next comparison. Lives on the loop; calls run on the pool. A store that is
// away is asked again.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_PINS_H_
#define DELTAWORKS_SERVICES_SCHEDULER_PINS_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/event.pb.h"
#include "scheduler/job_archive.h"
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
    // After a call that failed.
    absl::Duration retry = absl::Minutes(1);
    // Of 1,000 pins, of one tenant; one with more is not compared.
    int64_t pages_max = 1'000;
  };

  // `on_done` is called after each call to the store; Start should follow. References must outlive
  // this and the pool's calls.
  Pins(const Options& options, EventLoop& loop, CallPool& pool, scheduler::JobArchive& archive,
       StoreClient& store, std::function<void()> on_done, SchedulerMetrics& metrics);

  // `event` was committed; `state` is as of its commit.
  void Committed(const scheduler::Event& event, const scheduler::State& state);
  // Goes on with what waits. `state` is committed.
  void Start(const scheduler::State& state, absl::Time now);
  // No further page is listed.
  void Stop() { stopping_ = true; }

 private:
  struct Change {
    std::string job;
    std::string digest;
    bool pin = false;  // Otherwise it is dropped,
    // and if it came of a comparison, only while no worker holds the job.
    bool from_compare = false;
  };

  // By owner.
  using Pinned = absl::btree_map<std::string, std::vector<std::string>>;
  struct Seen {
    Pinned pinned;
    // Jobs of the state are dealt with and no longer in it.
    bool archived_only = false;
  };

  // On the pool.
  absl::StatusOr<Pinned> List(const std::string& look) const;
  void Reconcile(const scheduler::State& state);
  // Absent if the job is not known: an old database must not cost bytes.
  std::optional<std::vector<std::string>> NeededBy(const std::string& job,
                                                   const scheduler::State& state);
  // Whether the committed state wants it, when its turn comes.
  bool IsWanted(const Change& change, const scheduler::State& state);
  void RunChange(Change change);
  void ChangeDone(const Change& change, const absl::Status& status);
  void RunLook(const std::string& look);
  // What the store has, seen by `look`. False if there is more of it to compare.
  bool Compare(const std::string& look, const scheduler::State& state, Seen* seen);
  void CompareJob(const std::string& job, const std::vector<std::string>& needed,
                  const std::vector<std::string>& pinned);
  // After a call.
  void Failed(absl::string_view what, const std::string& job, const absl::Status& status);

  const Options options_;
  EventLoop& loop_;
  CallPool& pool_;
  scheduler::JobArchive& archive_;
  StoreClient& store_;
  const std::function<void()> on_done_;
  SchedulerMetrics& metrics_;
  std::atomic<bool> stopping_ = false;

  // Kept checkpoints of jobs that are not final, as last seen.
  absl::btree_map<std::string, std::vector<std::string>> kept_;
  std::deque<Change> changes_;
  // A job's name, or "tenants/{tenant}/jobs/" for all of a tenant.
  absl::btree_set<std::string> looks_;
  // Answers of looks, for the next Start, which has a committed state.
  absl::btree_map<std::string, Seen> seen_;
  bool under_way_ = false;
  absl::Time not_before_ = absl::InfinitePast();
  absl::Time next_reconcile_ = absl::InfinitePast();
  absl::Time now_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_PINS_H_

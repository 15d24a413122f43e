// HeldSyncs: reports of workers that wait for news (long poll).
//
// A report is answered as soon as what its worker should hold has changed since the answer it acted
// on, at once if something in it wants an answer, and after `hold` at the latest; always from
// committed state, which the caller vouches for when it calls AnswerReady. Looked at are only those
// that are new or due and those that the caller names, so that a turn costs what changed. One by
// worker: a newer report ends an older one with ABORTED. Lives on the loop, and longer than the
// loop's tasks.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_HELD_SYNCS_H_
#define DELTAWORKS_SERVICES_SCHEDULER_HELD_SYNCS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "scheduler/scheduler.h"
#include "services/base/event_loop.h"
#include "services/scheduler/metrics.h"

namespace deltaworks::services {

class HeldSyncs {
 public:
  using Reply = absl::AnyInvocable<void(absl::StatusOr<v1::SyncResponse>)>;

  // `on_due` is called when a report has waited long enough; AnswerReady should follow.
  HeldSyncs(EventLoop& loop, absl::Duration hold, std::function<void()> on_due,
            SchedulerMetrics& metrics);

  // Holds a report that was taken in, under an id of the caller's.
  void Add(int64_t id, v1::SyncRequest report, absl::Time received_at, Reply reply);
  // The caller is gone; its reply gets CANCELLED.
  void Drop(int64_t id);
  // What `worker` should hold may have changed, or that of all.
  void LookAt(const std::string& worker);
  void LookAtAll();
  // That of those told to leave: when their grace is over, time alone changes it.
  void LookAtLeaving(const scheduler::State& state);
  // Answers what is ready of those to look at, or everything.
  void AnswerReady(scheduler::Scheduler& scheduler, absl::Time now, bool all = false);

  bool Holds(const std::string& worker) const { return held_.contains(worker); }
  int64_t size() const { return static_cast<int64_t>(held_.size()); }

 private:
  struct Held {
    int64_t id = 0;
    v1::SyncRequest report;  // Without metrics and logs.
    absl::Time received_at;
    bool due = false;
    EventLoop::TimerId timer = 0;
    Reply reply;
  };

  Held Take(absl::btree_map<std::string, Held>::iterator at);
  void Finish(Held held, absl::StatusOr<v1::SyncResponse> answer);

  EventLoop& loop_;
  const absl::Duration hold_;
  const std::function<void()> on_due_;
  SchedulerMetrics& metrics_;
  absl::btree_map<std::string, Held> held_;              // By worker.
  absl::flat_hash_map<int64_t, std::string> worker_of_;  // By id, of those held.
  absl::btree_set<std::string> to_look_at_;              // Workers.
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_HELD_SYNCS_H_

// Fleet: the workers as their reports describe them.
//
// Not durable and not part of State: a worker says it all again with its next report. It lives
// beside the core and survives its reload. It also numbers the answers: an answer whose content
// changed gets a larger revision than every answer before.
//
// Pure state: no clock, time is an argument. Not thread-safe.

#ifndef DELTAWORKS_SCHEDULER_FLEET_H_
#define DELTAWORKS_SCHEDULER_FLEET_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/deltaworks/v1/worker_service.pb.h"

namespace deltaworks::scheduler {

struct WorkerInfo {
  std::string name;
  int64_t incarnation = 0;
  v1::WorkerEnvironment environment;
  // By base, as measured.
  std::vector<v1::PassTime> pass_times;
  // It said so.
  bool draining = false;
  // Reported within the last lease.
  bool online = false;
  absl::Time last_seen;
};

class Fleet {
 public:
  // `online_for`: how long after its last report a worker counts as online; one lease.
  // `started_at`: since when the fleet listens.
  Fleet(absl::Duration online_for, absl::Time started_at)
      : online_for_(online_for), started_at_(started_at) {}

  // Takes in what a report says of its worker.
  //   FailedPrecondition  a higher incarnation was seen, here or (`incarnation_min`) ever.
  //   Aborted             a larger report number of this incarnation was seen.
  // The same number again is OK: the report was repeated.
  absl::Status Accept(const v1::SyncRequest& report, int64_t incarnation_min, absl::Time now);

  // The revision of the answer to `worker`: a new one if `content` differs from that of the last
  // call.
  int64_t Revise(absl::string_view worker, const std::string& content);

  // Says who is online at `now`, and forgets who was silent for a day.
  void Advance(absl::Time now);

  // By name, as of the last Advance. Addresses stay until the worker is forgotten.
  const std::map<std::string, WorkerInfo>& workers() const { return workers_; }
  // nullptr if it is not known.
  const WorkerInfo* Find(absl::string_view worker) const;
  // Workers of which anything but pass_times changed since the last call, or that were forgotten;
  // by name.
  absl::btree_set<std::string> TakeChanged() { return std::exchange(changed_, {}); }

  // The largest memory of a worker of this kind ("": any) that is online or was within a day; 0 if
  // there is none.
  int64_t MemoryMax(const std::string& device_kind) const;

  // When a worker of this numerics class last reported; started_at if none did.
  absl::Time ClassLastSeen(absl::string_view numerics_class) const;

  absl::Time started_at() const { return started_at_; }

 private:
  struct Numbers {
    int64_t report_number = 0;
    int64_t revision = 0;
    std::string content;
  };

  using LastSeen = absl::btree_set<std::pair<absl::Time, std::string>>;

  // Into the derived sets, or out of them.
  void Index(const WorkerInfo& worker, bool in);

  const absl::Duration online_for_;
  const absl::Time started_at_;
  std::map<std::string, WorkerInfo> workers_;
  absl::flat_hash_map<absl::string_view, const WorkerInfo*> worker_by_name_;  // Of workers_.
  LastSeen online_;
  LastSeen offline_;
  // By device kind: how many have how much.
  absl::btree_map<std::string, absl::btree_map<int64_t, int64_t>> memory_;
  absl::btree_set<std::string> changed_;
  absl::btree_map<std::string, Numbers> numbers_;
  absl::btree_map<std::string, absl::Time> class_last_seen_;
  int64_t last_revision_ = 0;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_FLEET_H_

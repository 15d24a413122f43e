// WorkerTroubles: workers on which attempts die.
//
// Counted are incidents in a row, with nothing done in between: a checkpoint or a result of the
// worker's clears its record. An incident is a moment in which attempts died of which at least one
// is of a job that did not die there before in that row; so a job that kills whatever it runs on
// does not make its workers look bad, and a cohort that dies with its worker is one incident.
// Pure state, part of State.

#ifndef DELTAWORKS_SCHEDULER_WORKER_TROUBLE_H_
#define DELTAWORKS_SCHEDULER_WORKER_TROUBLE_H_

#include <string>

#include "absl/container/btree_map.h"
#include "scheduler/event.pb.h"

namespace deltaworks::scheduler {

class WorkerTroubles {
 public:
  void Died(const std::string& worker, const std::string& job,
            const google::protobuf::Timestamp& time);
  // Also when an operator says so.
  void Clear(const std::string& worker) { troubles_.erase(worker); }
  // One more incident, and it is again.
  void Quarantined(const std::string& worker);

  // By worker.
  const absl::btree_map<std::string, WorkerTrouble>& all() const { return troubles_; }
  void Restore(const WorkerTrouble& trouble) { troubles_[trouble.worker()] = trouble; }

 private:
  absl::btree_map<std::string, WorkerTrouble> troubles_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_WORKER_TROUBLE_H_

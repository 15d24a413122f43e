// JobQueue: the QUEUED jobs, so that finding who goes next does not depend on how many there are.
//
// Three views of the same jobs, each by key: all; by shape; by tenant and shape. Derived from the
// records, not stored. Pure state, part of State.

#ifndef DELTAWORKS_SCHEDULER_JOB_QUEUE_H_
#define DELTAWORKS_SCHEDULER_JOB_QUEUE_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "scheduler/event.pb.h"
#include "scheduler/job_shape.h"
#include "scheduler/options.h"
#include "scheduler/queue_order.h"
#include "scheduler/work.h"

namespace deltaworks::scheduler {

class JobQueue {
 public:
  using Keys = absl::btree_set<QueueKey>;
  struct ShapeQueue {
    const JobShape shape;
    Keys keys;
    RankSums sums;  // Of what they need.
  };
  // By address; each lives as long as it has jobs.
  using TenantQueue = absl::btree_map<const ShapeQueue*, Keys>;

  explicit JobQueue(const Options& options) : options_(options) {}

  void Insert(const JobRecord& record);
  // The record must be as it was inserted.
  void Erase(const JobRecord& record);

  int64_t size() const { return static_cast<int64_t>(all_.size()); }
  bool empty() const { return all_.empty(); }
  // All, by key.
  const Keys& keys() const { return all_; }
  // By shape; none is empty.
  const std::map<JobShape, ShapeQueue>& shapes() const { return shapes_; }
  // By tenant; none is empty.
  const absl::btree_map<std::string, TenantQueue>& tenants() const { return tenants_; }

 private:
  const Options options_;
  Keys all_;
  std::map<JobShape, ShapeQueue> shapes_;  // Nodes: TenantQueue points to them.
  absl::btree_map<std::string, TenantQueue> tenants_;
};

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_JOB_QUEUE_H_

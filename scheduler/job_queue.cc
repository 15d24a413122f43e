#include "scheduler/job_queue.h"

#include "glog/logging.h"
#include "scheduler/resource_name.h"

namespace deltaworks::scheduler {

void JobQueue::Insert(const JobRecord& record) {
  const QueueKey key = MakeQueueKey(record.job(), options_);
  const JobShape shape = ShapeOf(record, options_);
  CHECK(all_.insert(key).second) << key.job << " is queued already";
  ShapeQueue& queue = shapes_.try_emplace(shape, ShapeQueue{shape, {}, {}}).first->second;
  queue.keys.insert(key);
  queue.sums.Add(key.rank, RemainingWork(record));
  tenants_[TenantOf(key.job)][&queue].insert(key);
}

void JobQueue::Erase(const JobRecord& record) {
  const QueueKey key = MakeQueueKey(record.job(), options_);
  const auto found = shapes_.find(ShapeOf(record, options_));
  CHECK(all_.erase(key) == 1 && found != shapes_.end()) << key.job << " is not queued";
  const auto tenant = tenants_.find(TenantOf(key.job));
  const auto of_tenant = tenant->second.find(&found->second);
  of_tenant->second.erase(key);
  if (of_tenant->second.empty()) tenant->second.erase(of_tenant);
  if (tenant->second.empty()) tenants_.erase(tenant);
  found->second.keys.erase(key);
  found->second.sums.Remove(key.rank, RemainingWork(record));
  if (found->second.keys.empty()) shapes_.erase(found);
}

}  // namespace deltaworks::scheduler

// QueueOrder: who goes first.
//
// A job's key is its submit time (or its start_after) minus the bonus of its class; the smallest
// goes first. Keys never
// change, so waiting alone moves a job forward (ageing) and nothing is ever sorted again: a job of
// the highest class overtakes at most those submitted less than its bonus before it. A retry, a
// pause or a preemption does not touch the key. Pure.

#ifndef DELTAWORKS_SCHEDULER_QUEUE_ORDER_H_
#define DELTAWORKS_SCHEDULER_QUEUE_ORDER_H_

#include <algorithm>
#include <string>
#include <tuple>

#include "absl/time/time.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "scheduler/options.h"
#include "scheduler/proto_time.h"

namespace deltaworks::scheduler {

struct QueueKey {
  absl::Time rank;
  std::string job;  // Breaks ties, so that the order is total.

  friend bool operator<(const QueueKey& a, const QueueKey& b) {
    return std::tie(a.rank, a.job) < std::tie(b.rank, b.job);
  }
  friend bool operator==(const QueueKey& a, const QueueKey& b) {
    return a.rank == b.rank && a.job == b.job;
  }
};

inline absl::Duration ClassBonus(v1::PriorityClass priority_class, const Options& options) {
  switch (priority_class) {
    case v1::HIGH:
      return options.bonus_high;
    case v1::LOW:
      return absl::ZeroDuration();
    default:
      return options.bonus_normal;
  }
}

inline QueueKey MakeQueueKey(const v1::Job& job, const Options& options) {
  const absl::Time waits_since =
      std::max(FromProto(job.create_time()), FromProto(job.timing().start_after()));
  return {.rank = waits_since - ClassBonus(job.priority_class(), options), .job = job.name()};
}

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_QUEUE_ORDER_H_

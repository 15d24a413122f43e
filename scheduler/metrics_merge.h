// MergeMetrics: which reported points are new, and whether repeated ones are equal.
//
// A worker numbers its points by attempt and sends them until acknowledged, so a point may come
// more than once. A new attempt repeats the steps since the last checkpoint, so a step may come
// more than once; in the same numerics class it must give the same numbers. Pure function.

#ifndef DELTAWORKS_SCHEDULER_METRICS_MERGE_H_
#define DELTAWORKS_SCHEDULER_METRICS_MERGE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "scheduler/event.pb.h"

namespace deltaworks::scheduler {

struct MergedMetrics {
  int64_t acknowledged_n = 0;
  // Steps never recorded before, growing.
  std::vector<v1::MetricPoint> points;
  // What a repeated step gave otherwise; empty if all are equal.
  std::string difference;
  int64_t difference_step = 0;
};

// Points outside step 0..total_steps are passed over (and acknowledged).
MergedMetrics MergeMetrics(const JobRecord& record, const v1::AttemptReport& report);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_METRICS_MERGE_H_

#include "scheduler/estimator.h"

#include <algorithm>
#include <cmath>

#include "scheduler/placement.h"
#include "scheduler/proto_time.h"
#include "scheduler/queue_order.h"

namespace deltaworks::scheduler {

std::optional<v1::JobEstimate> Estimator::EstimateOf(const JobRecord& record) const {
  if (fleet_.workers().empty()) return std::nullopt;
  const Work work = RemainingWork(record);
  const PassSpeed speed = speeds_.Of(ShapeOf(record, options_), work);
  const double seconds = speed.Seconds(work);
  v1::JobEstimate estimate;
  estimate.set_device_ms(std::llround(std::min(seconds * 1e3, 9e18)));
  estimate.set_measured(speed.measured);
  estimate.set_cost(seconds / 3600 * options_.device_hour_price);
  return estimate;
}

std::optional<v1::StartBound> Estimator::BoundOf(const JobRecord& record, absl::Time now) const {
  const JobShape shape = ShapeOf(record, options_);
  const int64_t workers = WorkersFor(shape, now);
  if (workers < shape.gang_size) return std::nullopt;
  const absl::Time overdue =
      MakeQueueKey(record.job(), options_).rank + options_.bonus_high + options_.max_overtake;
  v1::StartBound bound;
  bound.set_work_ahead_seconds(SecondsAhead(record));
  bound.set_workers(workers);
  // A hundred years are as good as more, and can be written down.
  const absl::Duration wait = std::min(
      absl::Seconds(bound.work_ahead_seconds() / static_cast<double>(BusyBefore(shape, workers))),
      absl::Hours(24 * 365 * 100));
  *bound.mutable_latest_start_time() = ToProto(std::max(overdue, now) + wait);
  return bound;
}

int64_t Estimator::WorkersFor(const JobShape& shape, absl::Time now) const {
  return workers_.CountFeasible(shape, MayChangeClass(shape, fleet_, options_, now));
}

int64_t Estimator::BusyBefore(const JobShape& shape, int64_t workers) const {
  int64_t gang = shape.gang_size;
  for (const auto& [other, queue] : state_.queue().shapes()) {
    if (!shape.device_kind.empty() && !other.device_kind.empty() &&
        shape.device_kind != other.device_kind) {
      continue;
    }
    gang = std::max<int64_t>(gang, other.gang_size);
  }
  return std::max<int64_t>(1, workers - gang + 1);
}

double Estimator::SecondsAhead(const JobRecord& record) const {
  const JobShape own = ShapeOf(record, options_);
  const absl::Time rank = MakeQueueKey(record.job(), options_).rank;
  double seconds = 0;
  const auto add = [&](const JobShape& shape, const Work& work) {
    if (!shape.device_kind.empty() && !own.device_kind.empty() &&
        shape.device_kind != own.device_kind) {
      return;
    }
    // On the devices that this job waits for.
    JobShape there = {.base_manifest_digest = shape.base_manifest_digest,
                      .compute_type = shape.compute_type,
                      .device_kind = own.device_kind};
    seconds += speeds_.Of(there, work).Seconds(work);
  };
  for (const auto& [shape, running] : state_.running()) add(shape, running.work);
  for (const auto& [shape, queue] : state_.queue().shapes()) {
    Work ahead = queue.sums.Through(rank).work;
    // Itself is not ahead of it.
    if (shape == own && queue.keys.contains(MakeQueueKey(record.job(), options_))) {
      ahead -= RemainingWork(record);
    }
    add(shape, ahead);
  }
  return seconds;
}

}  // namespace deltaworks::scheduler

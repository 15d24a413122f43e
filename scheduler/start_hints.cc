#include "scheduler/start_hints.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "scheduler/grant_planner.h"
#include "scheduler/job_shape.h"
#include "scheduler/placement.h"
#include "scheduler/queue_order.h"
#include "scheduler/resource_name.h"

namespace deltaworks::scheduler {
namespace {

int64_t JobsBefore(absl::Time rank, const State& state) {
  int64_t jobs = 0;
  for (const auto& [shape, queue] : state.queue().shapes()) jobs += queue.sums.Before(rank).jobs;
  return jobs;
}

}  // namespace

std::vector<std::string> StartHints(const JobRecord& record, const State& state, const Fleet& fleet,
                                    const Estimator& estimator, const Options& options,
                                    absl::Time now) {
  std::vector<std::string> hints;
  const v1::Job& job = record.job();
  const JobShape shape = ShapeOf(record, options);
  const int64_t workers = estimator.WorkersFor(shape, now);

  if (job.priority_class() != v1::HIGH) {
    v1::Job high = job;
    high.set_priority_class(v1::HIGH);
    const int64_t ahead = JobsBefore(MakeQueueKey(job, options).rank, state);
    const int64_t ahead_of_high = JobsBefore(MakeQueueKey(high, options).rank, state);
    if (ahead_of_high < ahead) {
      hints.push_back(absl::StrCat("priority_class HIGH: ", ahead_of_high,
                                   " jobs would be ahead instead of ", ahead));
    }
  }
  const TenantShare share = ShareOf(std::string(TenantOf(job.name())), state, options, now);
  if (share.at_limit()) {
    hints.push_back(absl::StrCat("limit_devices of the tenant's quota: it is on ", share.devices,
                                 ", as many as it may"));
  }
  const auto without = [&](const char* what, auto change) {
    JobShape other = shape;
    change(&other);
    const int64_t others = estimator.WorkersFor(other, now);
    if (others > workers) {
      hints.push_back(absl::StrCat(what, ": ", others, " workers would do instead of ", workers));
    }
  };
  if (!shape.labels.empty()) {
    without("no worker_labels", [](JobShape* other) { other->labels.clear(); });
  }
  if (!shape.device_kind.empty()) {
    without("no device_kind", [](JobShape* other) { other->device_kind.clear(); });
  }
  const int64_t needed = job.status().facts().memory_bytes_max();
  if (shape.memory_bytes > needed) {
    without("no memory_bytes_min", [&](JobShape* other) { other->memory_bytes = needed; });
  }
  if (shape.exact) {
    without("resume_policy ANY", [](JobShape* other) { other->numerics_class.clear(); });
  }
  if (workers == 0 && job.status().facts().has_memory()) {
    const int64_t rows =
        RowsThatFit(PartsOf(job.status().facts().memory()), fleet.MemoryMax(shape.device_kind));
    if (rows > 0 && rows < job.status().facts().memory().rows()) {
      hints.push_back(absl::StrCat("micro_batch_tokens of at most ", rows,
                                   " (and text.max_length with it): it would fit the largest "
                                   "worker"));
    }
  }
  if (job.placement().cohort() == v1::Placement::COHORT_ALONE && !record.run_alone()) {
    JobRecord sharing = record;
    sharing.mutable_job()->mutable_placement()->set_cohort(v1::Placement::COHORT_ANY);
    const JobShape other = ShapeOf(sharing, options);
    if (!other.alone()) {
      for (const auto& [name, worker] : fleet.workers()) {
        if (CheckWorker(other, worker, state.WorkerMode(name), state.LoadOf(name),
                        MayChangeClass(other, fleet, options, now), options)
                .verdict != Verdict::kFits) {
          continue;
        }
        hints.push_back(absl::StrCat("cohort ANY: it could join the jobs on ", name, " now"));
        break;
      }
    }
  }
  return hints;
}

}  // namespace deltaworks::scheduler

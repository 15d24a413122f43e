#include "scheduler/placement.h"

#include <algorithm>

#include "scheduler/pass_speed.h"

namespace deltaworks::scheduler {
namespace {

bool HoldsBase(const JobShape& shape, const WorkerInfo& worker) {
  const auto& cached = worker.environment.bases_cached();
  return std::find(cached.begin(), cached.end(), shape.base_manifest_digest) != cached.end();
}

}  // namespace

int CheckOrder(v1::JobReason reason) {
  switch (reason) {
    case v1::NO_WORKER_ONLINE:
      return 0;
    case v1::NO_WORKER_WITH_DEVICE_KIND:
      return 1;
    case v1::NO_WORKER_WITH_LABELS:
      return 2;
    case v1::NO_WORKER_WITH_MEMORY:
      return 3;
    case v1::NO_WORKER_WITH_NUMERICS_CLASS:
      return 4;
    case v1::NO_WORKERS_FOR_GANG:
      return 5;
    case v1::WAITING_FOR_EMPTY_WORKER:
      return 6;
    case v1::WORKERS_BUSY:
      return 7;
    default:
      return 8;
  }
}

bool TakesJobs(const WorkerInfo& worker, v1::WorkerMode mode) {
  return worker.online && !worker.draining && mode == v1::WORKER_ACTIVE;
}

bool HasLabels(const JobShape& shape, const WorkerInfo& worker) {
  const auto& offered = worker.environment.labels();
  return std::all_of(shape.labels.begin(), shape.labels.end(), [&](const auto& label) {
    const auto found = offered.find(label.first);
    return found != offered.end() && found->second == label.second;
  });
}

bool MayJoinGang(const JobShape& shape, const WorkerInfo& worker) {
  return shape.gang_size == 1 || shape.gang_size <= worker.environment.gang_size_max();
}

Fit CheckWorkerKind(const JobShape& shape, const WorkerInfo& worker, bool any_class) {
  const auto infeasible = [](v1::JobReason reason) {
    return Fit{.verdict = Verdict::kInfeasible, .reason = reason};
  };
  const v1::WorkerEnvironment& is = worker.environment;
  if (!shape.device_kind.empty() && shape.device_kind != is.device_kind()) {
    return infeasible(v1::NO_WORKER_WITH_DEVICE_KIND);
  }
  if (!HasLabels(shape, worker)) return infeasible(v1::NO_WORKER_WITH_LABELS);
  if (shape.memory_bytes > is.memory_bytes()) return infeasible(v1::NO_WORKER_WITH_MEMORY);
  if (!any_class && !shape.numerics_class.empty() && shape.numerics_class != is.numerics_class()) {
    return infeasible(v1::NO_WORKER_WITH_NUMERICS_CLASS);
  }
  if (!MayJoinGang(shape, worker)) return infeasible(v1::NO_WORKERS_FOR_GANG);
  return {.verdict = Verdict::kFits, .reason = v1::READY_TO_RUN};
}

Fit CheckWorker(const JobShape& shape, const WorkerInfo& worker, v1::WorkerMode mode,
                const WorkerLoad& load, bool any_class, const Options& options) {
  const auto later = [](v1::JobReason reason) {
    return Fit{.verdict = Verdict::kRetryLater, .reason = reason};
  };
  if (!TakesJobs(worker, mode)) return later(v1::NO_WORKER_ONLINE);
  const Fit kind = CheckWorkerKind(shape, worker, any_class);
  if (kind.verdict != Verdict::kFits || load.empty()) return kind;
  // Beside others only what shares could ever join.
  if (shape.alone() && !load.cohort().empty()) return later(v1::WAITING_FOR_EMPTY_WORKER);
  if (!load.Admits(shape, worker.environment.memory_bytes(), OverheadTokens(shape, worker),
                   options)) {
    return later(v1::WORKERS_BUSY);
  }
  return kind;
}

PlacementCost CostOf(const JobShape& shape, const WorkerInfo& worker, const WorkerLoad& load) {
  return {.shared = !load.empty(),
          .lacks_base = load.empty() && !HoldsBase(shape, worker),
          .pass_tokens = load.pass_tokens(),
          .worker = worker.name};
}

bool MayChangeClass(const JobShape& shape, const Fleet& fleet, const Options& options,
                    absl::Time now) {
  if (shape.numerics_class.empty()) return true;
  return !shape.exact &&
         now - fleet.ClassLastSeen(shape.numerics_class) >= options.numerics_class_patience;
}

}  // namespace deltaworks::scheduler

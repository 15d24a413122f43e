// Placement: may a job of this shape run on that worker?
//
// "Not now" and "never" are different answers. The checks of one worker come in a fixed order, from
// what it is to what it does at the moment, and the first that fails is the reason; so the reason
// that got furthest among all workers explains why a job waits. Pure functions.

#ifndef DELTAWORKS_SCHEDULER_PLACEMENT_H_
#define DELTAWORKS_SCHEDULER_PLACEMENT_H_

#include <compare>
#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "proto/deltaworks/v1/operator_service.pb.h"
#include "scheduler/fleet.h"
#include "scheduler/job_shape.h"
#include "scheduler/options.h"
#include "scheduler/worker_load.h"

namespace deltaworks::scheduler {

enum class Verdict {
  kFits,        // Grant it.
  kRetryLater,  // Not now: the worker is offline, busy, draining.
  kInfeasible,  // Never on this worker: device, labels, memory, numerics class.
};

struct Fit {
  Verdict verdict = Verdict::kRetryLater;
  // READY_TO_RUN if it fits, else the first check that failed: NO_WORKER_ONLINE,
  // NO_WORKER_WITH_DEVICE_KIND, ..._LABELS, ..._MEMORY, ..._NUMERICS_CLASS,
  // WAITING_FOR_EMPTY_WORKER, WORKERS_BUSY.
  v1::JobReason reason = v1::NO_WORKER_ONLINE;
};

// How far the checks got: larger is further. For comparing the reasons of two workers.
int CheckOrder(v1::JobReason reason);

// Online, not draining, and not cordoned or drained by the operator.
bool TakesJobs(const WorkerInfo& worker, v1::WorkerMode mode);

bool HasLabels(const JobShape& shape, const WorkerInfo& worker);

// True for a job of one worker.
bool MayJoinGang(const JobShape& shape, const WorkerInfo& worker);

// What the worker is, whatever it does now: kFits or kInfeasible. `any_class`: the numerics class
// does not count.
Fit CheckWorkerKind(const JobShape& shape, const WorkerInfo& worker, bool any_class);

// Whether to grant now, beside `load`.
Fit CheckWorker(const JobShape& shape, const WorkerInfo& worker, v1::WorkerMode mode,
                const WorkerLoad& load, bool any_class, const Options& options);

// Of workers that fit the smaller is better: an empty one first, then one that holds the base, then
// the one with the shortest pass, then the first by name.
struct PlacementCost {
  bool shared = false;
  bool lacks_base = false;
  int64_t pass_tokens = 0;
  std::string worker;

  auto operator<=>(const PlacementCost&) const = default;
};
PlacementCost CostOf(const JobShape& shape, const WorkerInfo& worker, const WorkerLoad& load);

// True if the job may leave its numerics class: it has none yet, or its policy is ANY and no worker
// of the class was seen for options.numerics_class_patience.
bool MayChangeClass(const JobShape& shape, const Fleet& fleet, const Options& options,
                    absl::Time now);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_PLACEMENT_H_

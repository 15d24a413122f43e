// Placement: may this job run on that worker?
//
// "Not now" and "never" are different answers. The checks of one worker come in a fixed order, from
// what it is to what it does at the moment, and the first that fails is the reason; so the reason
// that got furthest among all workers explains why a job waits. Pure functions.

#ifndef DELTAWORKS_SCHEDULER_PLACEMENT_H_
#define DELTAWORKS_SCHEDULER_PLACEMENT_H_

#include <cstdint>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "scheduler/event.pb.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/state.h"

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

// What a worker is asked to hold: the state, plus grants that are planned but not folded yet.
class Slots {
 public:
  Slots(const State& state, const Options& options) : state_(state), options_(options) {}

  // Attempts on `worker`.
  int64_t Held(absl::string_view worker) const;
  // No room for `record`: all slots taken, or one of the two wants the worker for itself.
  bool Full(absl::string_view worker) const;
  void Take(absl::string_view worker, const JobRecord& record);

 private:
  const State& state_;
  const Options& options_;
  struct Planned {
    int64_t count = 0;
    bool alone = false;
  };
  absl::btree_map<std::string, Planned> planned_;
};

// What the worker is, whatever it does now: kFits or kInfeasible. `any_class`: the numerics class
// does not count.
Fit CheckWorkerKind(const JobRecord& record, const WorkerInfo& worker, bool any_class);

// Whether to grant now.
Fit CheckWorker(const JobRecord& record, const WorkerInfo& worker, bool any_class,
                const Slots& slots);

// True if the job may leave its numerics class: it has none yet, or its policy is ANY and no worker
// of the class was seen for options.numerics_class_patience.
bool MayChangeClass(const JobRecord& record, const Fleet& fleet, const Options& options,
                    absl::Time now);

// The best of `workers` that fit: one that holds the base already, then the emptiest, then the
// first; nullptr if none fits.
const WorkerInfo* ChooseWorker(const JobRecord& record, absl::Span<const WorkerInfo* const> workers,
                               bool any_class, const Slots& slots);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_PLACEMENT_H_

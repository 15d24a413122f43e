#include "scheduler/placement.h"

#include <algorithm>
#include <tuple>

#include "scheduler/job_record.h"

namespace deltaworks::scheduler {
namespace {

bool HasLabels(const JobRecord& record, const WorkerInfo& worker) {
  const auto& wanted = record.job().placement().worker_labels();
  const auto& offered = worker.environment.labels();
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& label) {
    const auto found = offered.find(label.first);
    return found != offered.end() && found->second == label.second;
  });
}

bool HoldsBase(const JobRecord& record, const WorkerInfo& worker) {
  const auto& cached = worker.environment.bases_cached();
  return std::find(cached.begin(), cached.end(),
                   record.job().status().facts().base_manifest_digest()) != cached.end();
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
    case v1::WAITING_FOR_EMPTY_WORKER:
      return 5;
    case v1::WORKERS_BUSY:
      return 6;
    default:
      return 7;
  }
}

int64_t Slots::Held(absl::string_view worker) const {
  const auto planned = planned_.find(worker);
  return static_cast<int64_t>(state_.JobsOn(worker).size()) +
         (planned == planned_.end() ? 0 : planned->second.count);
}

bool Slots::Full(absl::string_view worker) const {
  if (Held(worker) >= options_.attempts_per_worker) return true;
  const auto planned = planned_.find(worker);
  if (planned != planned_.end() && planned->second.alone) return true;
  const State::Names& jobs = state_.JobsOn(worker);
  return std::any_of(jobs.begin(), jobs.end(), [&](const std::string& job) {
    return state_.FindJob(job)->current().alone();
  });
}

void Slots::Take(absl::string_view worker, const JobRecord& record) {
  Planned& planned = planned_[std::string(worker)];
  ++planned.count;
  planned.alone = planned.alone || record.run_alone();
}

Fit CheckWorkerKind(const JobRecord& record, const WorkerInfo& worker, bool any_class) {
  const auto infeasible = [](v1::JobReason reason) {
    return Fit{.verdict = Verdict::kInfeasible, .reason = reason};
  };
  const std::string& kind = record.job().placement().device_kind();
  if (!kind.empty() && kind != worker.environment.device_kind()) {
    return infeasible(v1::NO_WORKER_WITH_DEVICE_KIND);
  }
  if (!HasLabels(record, worker)) return infeasible(v1::NO_WORKER_WITH_LABELS);
  if (record.job().status().facts().memory_bytes_max() > worker.environment.memory_bytes()) {
    return infeasible(v1::NO_WORKER_WITH_MEMORY);
  }
  const std::string& numerics_class = record.job().status().numerics_class();
  if (!any_class && !numerics_class.empty() &&
      numerics_class != worker.environment.numerics_class()) {
    return infeasible(v1::NO_WORKER_WITH_NUMERICS_CLASS);
  }
  return {.verdict = Verdict::kFits, .reason = v1::READY_TO_RUN};
}

Fit CheckWorker(const JobRecord& record, const WorkerInfo& worker, bool any_class,
                const Slots& slots) {
  const auto later = [](v1::JobReason reason) {
    return Fit{.verdict = Verdict::kRetryLater, .reason = reason};
  };
  if (!worker.online || worker.draining) return later(v1::NO_WORKER_ONLINE);
  const Fit kind = CheckWorkerKind(record, worker, any_class);
  if (kind.verdict != Verdict::kFits) return kind;
  if (record.run_alone() && slots.Held(worker.name) > 0) {
    return later(v1::WAITING_FOR_EMPTY_WORKER);
  }
  if (slots.Full(worker.name)) return later(v1::WORKERS_BUSY);
  return kind;
}

bool MayChangeClass(const JobRecord& record, const Fleet& fleet, const Options& options,
                    absl::Time now) {
  const std::string& numerics_class = record.job().status().numerics_class();
  if (numerics_class.empty()) return true;
  return record.job().placement().resume_policy() != v1::Placement::EXACT &&
         now - fleet.ClassLastSeen(numerics_class) >= options.numerics_class_patience;
}

const WorkerInfo* ChooseWorker(const JobRecord& record, absl::Span<const WorkerInfo* const> workers,
                               bool any_class, const Slots& slots) {
  const auto cost = [&](const WorkerInfo& worker) {
    return std::make_tuple(!HoldsBase(record, worker), slots.Held(worker.name));
  };
  const WorkerInfo* best = nullptr;
  for (const WorkerInfo* worker : workers) {
    if (CheckWorker(record, *worker, any_class, slots).verdict != Verdict::kFits) continue;
    if (best == nullptr || cost(*worker) < cost(*best)) best = worker;
  }
  return best;
}

}  // namespace deltaworks::scheduler

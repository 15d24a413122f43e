// CommittedView: what may be shown: the state as of the last commit, and what explains it. Valid
// within the task of the loop that got it.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_COMMITTED_VIEW_H_
#define DELTAWORKS_SERVICES_SCHEDULER_COMMITTED_VIEW_H_

#include <optional>

#include "absl/time/time.h"
#include "scheduler/explain.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/state.h"
#include "services/scheduler/estimate_errors.h"
#include "services/scheduler/event_store.h"

namespace deltaworks::services {

struct CommittedView {
  const scheduler::State& state;
  const scheduler::Fleet& fleet;
  const scheduler::Options& options;
  absl::Time now;
  EventStore& store;
  EstimateErrors& estimate_errors;
  // Absent while the state is loaded again.
  std::optional<scheduler::Explainer::Sources> sources;

  // One for all jobs of an answer.
  scheduler::Explainer explainer() const { return {state, fleet, options, now}; }
  // One job, as its owner sees it.
  v1::Job Show(const scheduler::JobRecord& record) const { return explainer().Show(record); }
  // The same with estimates, which take some time for a job far back in the queue.
  v1::Job ShowWithEstimates(const scheduler::JobRecord& record) const {
    v1::Job job = explainer().ShowOne(record, sources.has_value() ? &*sources : nullptr);
    estimate_errors.Told(job, now);
    return job;
  }
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_COMMITTED_VIEW_H_

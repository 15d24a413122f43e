// CommittedView: what may be shown: the state as of the last commit, and what explains it. Valid
// within the task of the loop that got it.

#ifndef DELTAWORKS_SERVICES_SCHEDULER_COMMITTED_VIEW_H_
#define DELTAWORKS_SERVICES_SCHEDULER_COMMITTED_VIEW_H_

#include "absl/time/time.h"
#include "scheduler/explain.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/state.h"
#include "services/scheduler/event_store.h"

namespace deltaworks::services {

struct CommittedView {
  const scheduler::State& state;
  const scheduler::Fleet& fleet;
  const scheduler::Options& options;
  absl::Time now;
  EventStore& store;

  // One for all jobs of an answer.
  scheduler::Explainer explainer() const { return {state, fleet, options, now}; }
  // One job, as its owner sees it.
  v1::Job Show(const scheduler::JobRecord& record) const { return explainer().Show(record); }
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_SCHEDULER_COMMITTED_VIEW_H_

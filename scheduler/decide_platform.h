// What the platform itself brings: a start, the answers of store and registry, and what a plan
// wants done. Pure functions; what came too late decides nothing.

#ifndef DELTAWORKS_SCHEDULER_DECIDE_PLATFORM_H_
#define DELTAWORKS_SCHEDULER_DECIDE_PLATFORM_H_

#include "scheduler/decide.h"

namespace deltaworks::scheduler {

Decision DecideStart(const DecisionContext& context);
Decision DecideValidation(const ValidationAnswer& answer, const DecisionContext& context);
Decision DecideVersion(const VersionAnswer& answer, const DecisionContext& context);
Decision DecideEndLease(const EndLease& command, const DecisionContext& context);
Decision DecideGrant(const GrantAttempt& command, const DecisionContext& context);
Decision DecidePreempt(const Preempt& command, const DecisionContext& context);
Decision DecideRelease(const ReleaseJob& command, const DecisionContext& context);
Decision DecideRenewStartBound(const RenewStartBound& command, const DecisionContext& context);
Decision DecideExpire(const ExpireJob& command, const DecisionContext& context);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_DECIDE_PLATFORM_H_

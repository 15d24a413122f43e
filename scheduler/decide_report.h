// What a worker reports. Pure function.
//
// Attempts are judged one by one. Only the current attempt of a job has a say: its metrics and logs
// are recorded, its newest checkpoint is committed if it is ahead of the last one, its result is
// accepted unless the job is being cancelled, its end is what it says. Everything else, whoever
// sent it and however often, decides nothing.

#ifndef DELTAWORKS_SCHEDULER_DECIDE_REPORT_H_
#define DELTAWORKS_SCHEDULER_DECIDE_REPORT_H_

#include "scheduler/decide.h"

namespace deltaworks::scheduler {

// A higher incarnation than any before first ends the attempts of the lower ones.
Decision DecideReport(const v1::SyncRequest& report, const DecisionContext& context);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_DECIDE_REPORT_H_

// FoldIntoJob: what an event does to the job that it concerns. Pure function.

#ifndef DELTAWORKS_SCHEDULER_JOB_FOLD_H_
#define DELTAWORKS_SCHEDULER_JOB_FOLD_H_

#include "absl/status/status.h"
#include "scheduler/event.pb.h"

namespace deltaworks::scheduler {

// Folds `event` into `record`; an empty record becomes the job of a JobCreated event. DataLoss or
// Internal if the event cannot follow what was folded before (a sequence number, a move that is not
// legal, an attempt that is not there): the stored events are damaged, and `record` is unusable.
absl::Status FoldIntoJob(const Event& event, JobRecord* record);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_JOB_FOLD_H_

// Preview: what would become of a job, without making it. Pure.

#ifndef DELTAWORKS_SCHEDULER_PREVIEW_H_
#define DELTAWORKS_SCHEDULER_PREVIEW_H_

#include "absl/time/time.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "proto/deltaworks/v1/training_service.pb.h"
#include "scheduler/explain.h"
#include "scheduler/fleet.h"
#include "scheduler/options.h"
#include "scheduler/state.h"

namespace deltaworks::scheduler {

// `job`: as CompleteJob gives it, under a name that no job has. The answer has neither that name
// nor the adapter that it would give its name to. `answer`: the store's. Without `sources` nothing
// is estimated.
v1::EstimateJobResponse PreviewJob(const v1::Job& job, const v1::ValidateTrainingResponse& answer,
                                   const State& state, const Fleet& fleet,
                                   const Explainer::Sources* sources, const Options& options,
                                   absl::Time now);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_PREVIEW_H_

// Cohort: several runs trained together over one base. In a pass each active run gives at most one
// micro-batch; those that train share one forward and backward pass of the frozen weights, those
// that evaluate share one forward pass. A cohort of one is a solo job: there is no other path.
//
// A run's results are the same bytes whoever else takes part (Backend's row independence and
// segment sums). A run that diverges gets a status and costs the others nothing.
//
// Runs may join and leave between passes. Thread-compatible.

#ifndef DELTAWORKS_TRAINER_TRAIN_COHORT_H_
#define DELTAWORKS_TRAINER_TRAIN_COHORT_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/model/llama.h"
#include "trainer/model/workspace.h"
#include "trainer/train/training_run.h"

namespace deltaworks::trainer {

struct RunMetrics {
  TrainingRun* run = nullptr;
  StepMetrics metrics;
};

class Cohort {
 public:
  // `model` must outlive the cohort.
  explicit Cohort(const Llama& model)
      : model_(model), workspace_(model.backend(), model.config()) {}

  // One pass over the active ones of `runs`. Returns the metrics that became final.
  // ResourceExhausted if the device has no room for the pass (nothing was trained, the runs are as
  // they were), Internal after a device fault (the runs must be restored from checkpoints).
  absl::StatusOr<std::vector<RunMetrics>> Pass(absl::Span<TrainingRun* const> runs);

 private:
  absl::Status PassOf(const std::vector<TrainingRun*>& runs, bool evaluating,
                      std::vector<RunMetrics>* metrics);

  const Llama& model_;
  Workspace workspace_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TRAIN_COHORT_H_

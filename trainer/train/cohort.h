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

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "trainer/model/llama.h"
#include "trainer/model/workspace.h"
#include "trainer/train/training_run.h"

namespace deltaworks::trainer {

struct RunMetrics {
  TrainingRun* run = nullptr;
  StepMetrics metrics;
};

// What one run gave to a pass.
struct RunTurn {
  TrainingRun* run = nullptr;
  int64_t tokens = 0;  // As StepMetrics counts them.
  bool evaluated = false;
};

struct PassResult {
  absl::Status status;
  // The runs that had their turn.
  std::vector<RunTurn> turns;
  // If the status is an error: the runs that had no turn. They are as they were.
  std::vector<TrainingRun*> waiting;
  // Those that became final, whatever the status is.
  std::vector<RunMetrics> metrics;
};

class Cohort {
 public:
  // `model` must outlive the cohort.
  explicit Cohort(const Llama& model)
      : model_(model), workspace_(model.backend(), model.config()) {}

  // One pass over the active ones of `runs`: those that train, then those that evaluate.
  // ResourceExhausted if the device has no room for one of the two: nothing was done if it is the
  // first; if it is the second, those that train did so.
  // Internal after a device fault: all runs must be restored from checkpoints.
  PassResult Pass(absl::Span<TrainingRun* const> runs);

  // Gives back what passes needed: fewer runs are to come. The next pass takes what it needs.
  void ReleaseMemory() { workspace_.Release(); }

 private:
  absl::Status PassOf(const std::vector<TrainingRun*>& runs, bool evaluating, PassResult* result);

  const Llama& model_;
  Workspace workspace_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TRAIN_COHORT_H_

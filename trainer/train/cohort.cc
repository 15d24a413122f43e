#include "trainer/train/cohort.h"

#include <iterator>
#include <utility>

#include "absl/algorithm/container.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {

PassResult Cohort::Pass(absl::Span<TrainingRun* const> runs) {
  // Decided before anything runs: a run that ends its evaluation here trains in the next pass.
  std::vector<TrainingRun*> training, evaluating;
  for (TrainingRun* run : runs) {
    if (run->active()) (run->evaluating() ? evaluating : training).push_back(run);
  }
  PassResult result;
  result.status = PassOf(training, /*evaluating=*/false, &result);
  if (!result.status.ok()) {
    result.waiting = std::move(training);
  } else {
    result.status = PassOf(evaluating, /*evaluating=*/true, &result);
  }
  if (!result.status.ok()) absl::c_copy(evaluating, std::back_inserter(result.waiting));
  return result;
}

absl::Status Cohort::PassOf(const std::vector<TrainingRun*>& runs, bool evaluating,
                            PassResult* result) {
  if (runs.empty()) return absl::OkStatus();
  PackedBatch batch;
  std::vector<RunTurn> turns;
  std::vector<size_t> label_ends;
  for (TrainingRun* run : runs) {
    turns.push_back({run, run->AppendMicroBatch(&batch), evaluating});
    label_ends.push_back(batch.labels.size());
  }
  DW_ASSIGN_OR_RETURN(
      const std::vector<double> losses,
      evaluating ? model_.Losses(batch, workspace_) : model_.LossesAndGradients(batch, workspace_));
  absl::c_copy(turns, std::back_inserter(result->turns));
  size_t begin = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto own = absl::MakeConstSpan(losses).subspan(begin, label_ends[i] - begin);
    begin = label_ends[i];
    if (std::optional<StepMetrics> step = runs[i]->Complete(own)) {
      result->metrics.push_back({runs[i], *std::move(step)});
    }
  }
  return absl::OkStatus();
}

}  // namespace deltaworks::trainer

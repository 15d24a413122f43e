// TrainingRun: one job in training: its adapter, its place in its data, its optimiser. A Cohort
// drives it; what it computes depends on its config and data only, never on who else trains.
//
//   step         one optimiser update over examples_per_step() examples in the run's own order
//   micro-batch  whole examples of a step, in order, up to micro_batch_tokens; cut the same way in
//                every run, because sums over tokens are taken within it
//
// A run evaluates before its first step, every eval_steps, and after its last step, if it has
// validation examples. Metrics of a step are final (and handed out) once its evaluation is done.
//
// A gang is several runs of one job, in processes of their own, that train it together: each takes
// its share of a step's examples, which are as many times more as the gang has members, and what
// they add up is the same on all of them (../comm/communicator.h). So a gang of n is a run with n
// times per_device_train_batch_size, up to the order of sums. All of them checkpoint the same
// state.
//
// The state that a checkpoint keeps is small: masters, moments, the number of steps done, tokens so
// far, and metrics still waiting for an evaluation. Everything else is derived: order, dropout and
// learning rate are functions of the seed and the step.
//
// Thread-compatible. The model, and the communicator, must outlive it.

#ifndef DELTAWORKS_TRAINER_TRAIN_TRAINING_RUN_H_
#define DELTAWORKS_TRAINER_TRAIN_TRAINING_RUN_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/comm/communicator.h"
#include "trainer/data/example.h"
#include "trainer/lora/adapter.h"
#include "trainer/model/llama.h"
#include "trainer/train/training_config.h"

namespace deltaworks::trainer {

struct StepMetrics {
  int64_t step = 0;  // 0: only eval_loss, before the first update.
  double loss = 0;   // Mean over the step's label tokens, nats.
  double learning_rate = 0;
  double grad_norm = 0;  // Before clipping.
  int64_t tokens = 0;    // Since the first step.
  std::optional<double> eval_loss;

  bool operator==(const StepMetrics&) const = default;
};

// What a run is bound to; a checkpoint is refused under other digests.
struct RunIdentity {
  std::string base_digest;
  std::string dataset_digest;
  std::string numerics_class;  // Filled in by the run: its backend's, and the gang's size.

  bool operator==(const RunIdentity&) const = default;
};

class TrainingRun {
 public:
  // A fresh adapter, seeded. InvalidArgument for a config or data that cannot be trained: a field
  // out of bounds, no example, an example longer than micro_batch_tokens or the model's positions,
  // or without a label. ResourceExhausted if the device has no room.
  // `gang`, over memory of the model's backend, if others train the same job.
  static absl::StatusOr<std::unique_ptr<TrainingRun>> Create(
      const Llama& model, const TrainingConfig& config, std::shared_ptr<const TrainingData> data,
      RunIdentity identity, Communicator* gang = nullptr);

  const TrainingConfig& config() const { return config_; }
  const RunIdentity& identity() const { return identity_; }
  const Adapter& adapter() const { return *adapter_; }
  int64_t step() const { return step_; }  // Steps done.
  int64_t total_steps() const { return total_steps_; }
  // Every step and evaluation is done.
  bool finished() const { return !evaluating_ && step_ == total_steps_; }
  // Not OK once the run diverged: InvalidArgument naming step and number; or once its gang broke:
  // the communicator's error. It takes no part in passes any more.
  const absl::Status& status() const { return status_; }
  bool active() const { return status_.ok() && !finished(); }
  // True between steps, once finished, and any time during an evaluation (which is then begun
  // again).
  bool at_step_boundary() const { return finished() || evaluating_ || next_micro_batch_ == 0; }

  // The next micro-batch is forward only.
  bool evaluating() const { return evaluating_; }
  // Appends the next micro-batch as a segment; returns its tokens. Only while active().
  int64_t AppendMicroBatch(PackedBatch* batch) const;
  // Takes the losses of that micro-batch's labels; makes the update after the last one of a step.
  // Returns metrics when they are final.
  std::optional<StepMetrics> Complete(absl::Span<const double> losses);

  // ---- In a gang ----
  // Asks all members to stop at the end of the step or evaluation under way; they agree on that as
  // they add up. Without a gang nobody is asked.
  void AskToStop() { asks_to_stop_ = true; }
  // One of them had asked, when they last added up: every member sees that at the same step's end.
  bool asked_to_stop() const { return asked_to_stop_; }

  // Replaces the adapter's start, before the first step: an adapter trained before.
  absl::Status StartFrom(absl::Span<const float> parameters);

  // The state as a safetensors file (checkpoint.h tells what is in it). Only at_step_boundary().
  std::string SaveCheckpoint() const;
  // FailedPrecondition if the checkpoint is of another config, data, base or numerics class;
  // InvalidArgument if it is damaged. On error the run is as it was.
  absl::Status RestoreCheckpoint(absl::string_view checkpoint);

 private:
  TrainingRun(const Llama& model, const TrainingConfig& config,
              std::shared_ptr<const TrainingData> data, RunIdentity identity, Communicator* gang);

  // A run of examples [begin, end) of the list at hand.
  struct MicroBatch {
    size_t begin = 0;
    size_t end = 0;
  };

  void BeginStep();
  void BeginEvaluation();
  std::vector<MicroBatch> Cut(const std::vector<const Example*>& examples) const;
  // Takes this member's share of them.
  void SetExamples(const std::vector<const Example*>& examples);
  // Adds what the members of the gang have: the loss, who asks to stop, and after a step's passes
  // the gradient.
  absl::Status SumOverGang(bool gradient);
  std::optional<StepMetrics> FinishStep();
  std::optional<StepMetrics> FinishEvaluation();
  bool EvaluationDue() const;

  const Llama& model_;
  const TrainingConfig config_;
  const std::shared_ptr<const TrainingData> data_;
  RunIdentity identity_;
  Communicator* const gang_;  // nullptr: none.
  const int64_t total_steps_;
  std::unique_ptr<DeviceBuffer> gang_words_;  // Three floats, in a gang.
  bool asks_to_stop_ = false;
  bool asked_to_stop_ = false;
  std::unique_ptr<Adapter> adapter_;
  absl::Status status_;

  int64_t step_ = 0;
  int64_t tokens_ = 0;
  bool evaluating_ = false;
  StepMetrics pending_;  // While evaluating: metrics of step_, without eval_loss.

  // The step or evaluation under way: this member's examples, and of all members' the labels, the
  // tokens, and the rows before this member's first.
  std::vector<const Example*> examples_;
  std::vector<MicroBatch> micro_batches_;
  size_t next_micro_batch_ = 0;
  int64_t label_count_ = 0;
  int64_t step_tokens_ = 0;
  int64_t rows_before_ = 0;
  double loss_sum_ = 0;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TRAIN_TRAINING_RUN_H_

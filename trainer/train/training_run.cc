#include "trainer/train/training_run.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/base/status_macros.h"
#include "trainer/train/data_order.h"

namespace deltaworks::trainer {
namespace {

absl::Status CheckExamples(const std::vector<Example>& examples, absl::string_view what,
                           const TrainingConfig& config, const Llama& model) {
  const int64_t longest = std::min(config.micro_batch_tokens, model.positions_max());
  for (size_t i = 0; i < examples.size(); ++i) {
    const int64_t tokens = examples[i].tokens();
    if (tokens < 2 || tokens > longest) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " example ", i, " has ", tokens, " tokens, want 2..", longest));
    }
    if (examples[i].label_count() == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " example ", i, " has no label token, want at least one"));
    }
    for (const int32_t id : examples[i].ids) {
      if (id < 0 || id >= model.config().vocab_size) {
        return absl::InvalidArgumentError(absl::StrCat(
            what, " example ", i, " has token ", id, ", want 0..", model.config().vocab_size - 1));
      }
    }
  }
  return absl::OkStatus();
}

int SizeOf(const Communicator* gang) { return gang == nullptr ? 1 : gang->size(); }

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingRun>> TrainingRun::Create(
    const Llama& model, const TrainingConfig& config, std::shared_ptr<const TrainingData> data,
    RunIdentity identity, Communicator* gang) {
  DW_RETURN_IF_ERROR(CheckTrainingConfig(config));
  if (data->train.empty()) {
    return absl::InvalidArgumentError("the dataset has 0 examples, want at least 1");
  }
  DW_RETURN_IF_ERROR(CheckExamples(data->train, "training", config, model));
  DW_RETURN_IF_ERROR(CheckExamples(data->validation, "validation", config, model));
  DW_ASSIGN_OR_RETURN(std::vector<LoraTarget> targets,
                      ResolveTargets(config.lora, model.modules()));
  auto run = std::unique_ptr<TrainingRun>(
      new TrainingRun(model, config, std::move(data), std::move(identity), gang));
  DW_ASSIGN_OR_RETURN(run->adapter_,
                      Adapter::Create(model.backend(), std::move(targets), /*trainable=*/true));
  run->adapter_->InitializeRandom(config.seed);
  if (SizeOf(gang) > 1) {
    DW_ASSIGN_OR_RETURN(run->gang_words_, model.backend().Allocate(3 * sizeof(float)));
  }
  if (run->data_->validation.empty()) {
    run->BeginStep();
  } else {
    run->BeginEvaluation();
  }
  return run;
}

TrainingRun::TrainingRun(const Llama& model, const TrainingConfig& config,
                         std::shared_ptr<const TrainingData> data, RunIdentity identity,
                         Communicator* gang)
    : model_(model),
      config_(config),
      data_(std::move(data)),
      identity_(std::move(identity)),
      gang_(gang),
      total_steps_(
          TotalSteps(WholeBatch(config, SizeOf(gang)), static_cast<int64_t>(data_->train.size()))) {
  identity_.numerics_class = model.backend().numerics_class();
  if (SizeOf(gang) > 1) absl::StrAppend(&identity_.numerics_class, "/gang-", gang->size());
}

std::vector<TrainingRun::MicroBatch> TrainingRun::Cut(
    const std::vector<const Example*>& examples) const {
  std::vector<MicroBatch> cut;
  int64_t tokens = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    if (i == 0 || tokens + examples[i]->tokens() > config_.micro_batch_tokens) {
      cut.push_back({i, i});
      tokens = 0;
    }
    cut.back().end = i + 1;
    tokens += examples[i]->tokens();
  }
  return cut;
}

void TrainingRun::SetExamples(const std::vector<const Example*>& examples) {
  const size_t members = SizeOf(gang_), rank = gang_ == nullptr ? 0 : gang_->rank();
  const size_t share = (examples.size() + members - 1) / members;
  const size_t begin = std::min(rank * share, examples.size());
  const size_t end = std::min(begin + share, examples.size());
  examples_.assign(examples.begin() + begin, examples.begin() + end);
  micro_batches_ = Cut(examples_);
  // Who has none has a turn all the same, in which the gang adds up.
  if (micro_batches_.empty()) micro_batches_.push_back({0, 0});
  next_micro_batch_ = 0;
  loss_sum_ = 0;
  label_count_ = step_tokens_ = rows_before_ = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    label_count_ += examples[i]->label_count();
    step_tokens_ += examples[i]->tokens();
    if (i < begin) rows_before_ += examples[i]->rows();
  }
}

void TrainingRun::BeginStep() {
  evaluating_ = false;
  std::vector<const Example*> examples;
  const int64_t of_all = WholeBatch(config_, SizeOf(gang_)).examples_per_step();
  for (const int64_t index :
       ExamplesOfStep(config_.seed, step_, of_all, static_cast<int64_t>(data_->train.size()))) {
    examples.push_back(&data_->train[index]);
  }
  SetExamples(examples);
}

void TrainingRun::BeginEvaluation() {
  evaluating_ = true;
  std::vector<const Example*> examples;
  for (const Example& example : data_->validation) examples.push_back(&example);
  SetExamples(examples);
}

int64_t TrainingRun::AppendMicroBatch(PackedBatch* batch) const {
  CHECK(active());
  const MicroBatch& micro_batch = micro_batches_[next_micro_batch_];
  DropoutKey dropout;
  if (!evaluating_) {
    dropout = {.p = static_cast<float>(config_.lora.lora_dropout),
               .seed = config_.seed,
               .step = static_cast<uint32_t>(step_),
               .token = static_cast<uint32_t>(rows_before_)};
    for (size_t i = 0; i < micro_batch.begin; ++i) {
      dropout.token += static_cast<uint32_t>(examples_[i]->rows());
    }
  }
  int64_t tokens = 0;
  batch->BeginSegment(adapter_.get(), dropout);
  for (size_t i = micro_batch.begin; i < micro_batch.end; ++i) {
    const Example& example = *examples_[i];
    batch->AppendDocument(absl::MakeConstSpan(example.ids).first(example.rows()),
                          example.RowLabels(), 1 / static_cast<double>(label_count_));
    tokens += example.tokens();
  }
  batch->EndSegment();
  return tokens;
}

std::optional<StepMetrics> TrainingRun::Complete(absl::Span<const double> losses) {
  CHECK(active());
  for (const double loss : losses) loss_sum_ += loss;
  if (++next_micro_batch_ < micro_batches_.size()) return std::nullopt;
  return evaluating_ ? FinishEvaluation() : FinishStep();
}

absl::Status TrainingRun::SumOverGang(bool gradient) {
  if (SizeOf(gang_) == 1) return absl::OkStatus();
  Backend& backend = model_.backend();
  // The sum of f32 parts is as exact as f32 losses are.
  const auto high = static_cast<float>(loss_sum_);
  float words[3] = {high, static_cast<float>(loss_sum_ - high), asks_to_stop_ ? 1.0f : 0.0f};
  const TensorView sums{gang_words_->data(), DType::kF32, {3}};
  backend.CopyToDevice(words, sums);
  DW_RETURN_IF_ERROR(backend.Synchronize());
  DW_RETURN_IF_ERROR(gang_->OrderedSum(sums.as<float>(), 3));
  if (gradient) {
    const TensorView sum = adapter_->gradient();
    DW_RETURN_IF_ERROR(gang_->OrderedSum(sum.as<float>(), sum.elements()));
  }
  backend.CopyToHost(sums, words);
  loss_sum_ = static_cast<double>(words[0]) + static_cast<double>(words[1]);
  asked_to_stop_ = words[2] > 0;
  return absl::OkStatus();
}

std::optional<StepMetrics> TrainingRun::FinishStep() {
  Backend& backend = model_.backend();
  status_ = SumOverGang(/*gradient=*/true);
  if (!status_.ok()) return std::nullopt;
  StepMetrics metrics{.step = step_ + 1, .loss = loss_sum_ / static_cast<double>(label_count_)};
  metrics.learning_rate = LearningRate(config_, metrics.step, total_steps_);
  metrics.grad_norm = std::sqrt(backend.SumOfSquares(adapter_->gradient()));
  if (!std::isfinite(metrics.loss) || !std::isfinite(metrics.grad_norm)) {
    status_ = absl::InvalidArgumentError(
        absl::StrCat("training diverged at step ", metrics.step, ": loss is ", metrics.loss,
                     ", gradient norm is ", metrics.grad_norm,
                     ", want finite numbers; try a lower learning_rate"));
    return std::nullopt;
  }
  // torch.nn.utils.clip_grad_norm_: scaled by max_norm / (norm + 1e-6) where that is below 1.
  double scale = 1;
  if (config_.max_grad_norm > 0) {
    scale = std::min(1.0, config_.max_grad_norm / (metrics.grad_norm + 1e-6));
  }
  backend.AdamW({.learning_rate = metrics.learning_rate,
                 .beta1 = config_.adam_beta1,
                 .beta2 = config_.adam_beta2,
                 .epsilon = config_.adam_epsilon,
                 .weight_decay = config_.weight_decay,
                 .step = metrics.step,
                 .gradient_scale = scale},
                adapter_->gradient(), adapter_->parameters(), adapter_->m(), adapter_->v());
  adapter_->RoundParameters();
  backend.Fill(adapter_->gradient(), 0);
  tokens_ += step_tokens_;
  metrics.tokens = tokens_;
  ++step_;
  if (EvaluationDue()) {
    pending_ = metrics;
    BeginEvaluation();
    return std::nullopt;
  }
  if (step_ < total_steps_) BeginStep();
  return metrics;
}

bool TrainingRun::EvaluationDue() const {
  if (data_->validation.empty()) return false;
  return step_ == total_steps_ || (config_.eval_steps > 0 && step_ % config_.eval_steps == 0);
}

std::optional<StepMetrics> TrainingRun::FinishEvaluation() {
  status_ = SumOverGang(/*gradient=*/false);
  if (!status_.ok()) return std::nullopt;
  StepMetrics metrics = pending_;
  metrics.eval_loss = loss_sum_ / static_cast<double>(label_count_);
  pending_ = StepMetrics();
  evaluating_ = false;
  if (step_ < total_steps_) BeginStep();
  return metrics;
}

absl::Status TrainingRun::StartFrom(absl::Span<const float> parameters) {
  if (step_ != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the run is at step ", step_, ", want 0 to start from an adapter"));
  }
  if (static_cast<int64_t>(parameters.size()) != adapter_->elements()) {
    return absl::InvalidArgumentError(absl::StrCat("the adapter has ", parameters.size(),
                                                   " numbers, want ", adapter_->elements()));
  }
  adapter_->WriteParameters(parameters);
  return absl::OkStatus();
}

}  // namespace deltaworks::trainer

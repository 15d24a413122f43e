// TrainFlags: every field of a job's TrainSpec as a flag, by the name that PEFT and Hugging Face
// give it, and the same from a file. Not thread-safe.

#ifndef DELTAWORKS_SERVICES_CLI_TRAIN_FLAGS_H_
#define DELTAWORKS_SERVICES_CLI_TRAIN_FLAGS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "services/cli/arguments.h"
#include "services/cli/command.h"
#include "services/cli/text_flags.h"

namespace deltaworks::services {

class TrainFlags {
 public:
  void Declare(Arguments& arguments);

  // Sets what was given over what `spec` has. Short names in `spec`, from a file, become full ones
  // too. InvalidArgument: a name, or a number that no field could hold; the scheduler checks
  // ranges.
  absl::Status Apply(const CommandContext& context, v1::TrainSpec& spec) const;

 private:
  void DeclareLora(Arguments& arguments);
  void DeclareArguments(Arguments& arguments);
  absl::Status ApplyNames(const CommandContext& context, v1::TrainSpec& spec) const;
  absl::Status ApplyLora(v1::LoraConfig& lora) const;
  absl::Status ApplyArguments(v1::TrainingArguments& arguments) const;

  std::string base_model_, dataset_, validation_dataset_, adapter_;
  std::optional<std::string> compute_type_;
  std::optional<int64_t> micro_batch_tokens_;
  TextFlags text_;

  std::optional<int64_t> rank_;
  std::optional<double> lora_alpha_, lora_dropout_;
  std::vector<std::string> target_modules_;
  std::map<std::string, std::string> rank_pattern_, alpha_pattern_;
  std::optional<bool> use_rslora_;

  std::optional<double> learning_rate_, num_train_epochs_, warmup_ratio_, weight_decay_,
      adam_beta1_, adam_beta2_, adam_epsilon_, max_grad_norm_;
  std::optional<int64_t> max_steps_, per_device_train_batch_size_, gradient_accumulation_steps_,
      warmup_steps_, seed_, eval_steps_, save_steps_, save_total_limit_;
  std::optional<std::string> lr_scheduler_type_;
};

// A Job from protobuf JSON, with PEFT's `r` taken for `rank`. `subject` begins the messages of
// InvalidArgument.
absl::Status ParseJobJson(absl::string_view json, const std::string& subject, v1::Job& job);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_TRAIN_FLAGS_H_

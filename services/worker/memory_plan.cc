#include "services/worker/memory_plan.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "services/worker/probe.h"
#include "trainer/lora/adapter.h"

namespace deltaworks::services {
namespace {

// Arrays of the adapter's size that checkpoints take. One on its way and one that waits have
// parameters, two moments and the adapter's own file; one being made has each of them twice.
constexpr int64_t kCheckpointArrays = 4 + 4 + 8;
// The adapter's file as it was sent, as it was read back, and parsed.
constexpr int64_t kReadBackArrays = 3;
// A logit on the device, as a double and as a float.
constexpr int64_t kLogitBytes = 4 + 8 + 4;

trainer::WorkspaceSize ProbePass(
    const std::array<int64_t, trainer::kLinearGroups>& hidden_columns) {
  return {.rows = kProbeTokensMax,
          .labels = static_cast<int64_t>(kProbeRowsMax),
          .hidden = hidden_columns};
}

std::string Mebibytes(int64_t bytes) { return absl::StrCat((bytes + (1 << 20) - 1) >> 20, " MiB"); }

// Ids, and one bit for each; a growing vector may have twice the room.
int64_t BytesOf(const std::vector<trainer::Example>& examples) {
  int64_t bytes = 0;
  for (const trainer::Example& example : examples) {
    bytes += static_cast<int64_t>(sizeof(trainer::Example));
    bytes += 2 * example.tokens() * static_cast<int64_t>(sizeof(int32_t)) + example.tokens() / 4;
  }
  return bytes;
}

}  // namespace

std::string MemoryPlan::Text() const {
  return absl::StrCat("base ", Mebibytes(base_bytes), ", adapter ", Mebibytes(adapter_bytes),
                      ", activations ", Mebibytes(activation_bytes), ", scratch ",
                      Mebibytes(scratch_bytes), ", data ", Mebibytes(data_bytes), ", checkpoints ",
                      Mebibytes(checkpoint_bytes), ", probe ", Mebibytes(probe_bytes), ", process ",
                      Mebibytes(kProcessBytes), ", together ", Mebibytes(total_bytes()));
}

trainer::WorkspaceSize Together(const trainer::WorkspaceSize& a, const trainer::WorkspaceSize& b) {
  trainer::WorkspaceSize both = a;
  both.rows += b.rows;
  both.labels += b.labels;
  both.logits += b.logits;
  both.segments += b.segments;
  both.keys = std::max(a.keys, b.keys);
  for (int group = 0; group < trainer::kLinearGroups; ++group) {
    both.hidden[group] = std::max(a.hidden[group], b.hidden[group]);
  }
  both.training = a.training || b.training;
  return both;
}

int64_t PlanScratch(const trainer::Backend& backend, const trainer::ModelConfig& config,
                    const trainer::WorkspaceSize& pass) {
  return std::max(trainer::Workspace::ScratchBytes(backend, config, pass),
                  trainer::Workspace::ScratchBytes(backend, config, ProbePass(pass.hidden)));
}

int64_t CohortMemory(const trainer::Backend& backend, const trainer::ModelConfig& config,
                     absl::Span<const MemoryPlan* const> plans) {
  trainer::WorkspaceSize pass = plans.front()->pass;
  int64_t needed = plans.front()->base_bytes + plans.front()->own_bytes();
  for (const MemoryPlan* plan : plans.subspan(1)) {
    pass = Together(pass, plan->pass);
    needed += plan->own_bytes();
  }
  return needed + trainer::Workspace::Bytes(backend, config, pass) +
         PlanScratch(backend, config, pass);
}

MemoryPlan PlanMemory(const trainer::Backend& backend, const trainer::ModelConfig& config,
                      int64_t base_bytes, absl::Span<const trainer::LoraTarget> targets,
                      int64_t micro_batch_tokens, const trainer::TrainingData& data) {
  const auto hidden = trainer::HiddenColumns(targets);
  const int64_t array_bytes =
      trainer::TrainableParameters(targets) * static_cast<int64_t>(sizeof(float));
  const auto probe_rows = static_cast<int64_t>(kProbeRowsMax);
  MemoryPlan plan;
  plan.base_bytes = base_bytes;
  plan.adapter_bytes = trainer::Adapter::Bytes(backend, targets, /*trainable=*/true);
  plan.pass = {.rows = micro_batch_tokens,
               .labels = micro_batch_tokens,
               .keys = micro_batch_tokens,
               .hidden = hidden,
               .training = true};
  plan.activation_bytes = trainer::Workspace::Bytes(backend, config, plan.pass);
  plan.scratch_bytes = PlanScratch(backend, config, plan.pass);
  plan.data_bytes = BytesOf(data.train) + BytesOf(data.validation);
  plan.checkpoint_bytes = kCheckpointArrays * array_bytes;
  plan.probe_bytes = trainer::Workspace::Bytes(backend, config, ProbePass(hidden)) +
                     probe_rows * config.vocab_size * kLogitBytes +
                     trainer::Adapter::Bytes(backend, targets, /*trainable=*/false) +
                     kReadBackArrays * array_bytes;
  return plan;
}

}  // namespace deltaworks::services

// MemoryPlan: an upper bound of what one run needs on its device and beside it, in bytes, as a
// table that an OUT_OF_MEMORY failure shows. Plain functions, thread-safe.

#ifndef DELTAWORKS_SERVICES_WORKER_MEMORY_PLAN_H_
#define DELTAWORKS_SERVICES_WORKER_MEMORY_PLAN_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/data/example.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/config.h"
#include "trainer/model/workspace.h"

namespace deltaworks::services {

// Programs and libraries: once by process.
inline constexpr int64_t kProcessBytes = int64_t{64} << 20;

struct MemoryPlan {
  int64_t base_bytes = 0;        // Mapped weights; once for all runs on that base.
  int64_t adapter_bytes = 0;     // Masters, gradient, moments, rounded copy.
  int64_t activation_bytes = 0;  // Of one micro-batch.
  int64_t scratch_bytes = 0;     // That the backend's operations need for it, or for the probe.
  int64_t data_bytes = 0;        // Examples.
  int64_t checkpoint_bytes = 0;  // One being made, one on its way to the store, one that waits.
  int64_t probe_bytes = 0;       // The result's adapter, read back, and its answers.
  trainer::WorkspaceSize pass;   // One micro-batch.

  // What adds up, whatever else is trained.
  int64_t own_bytes() const { return adapter_bytes + data_bytes + checkpoint_bytes + probe_bytes; }
  // Of a worker that has nothing else.
  int64_t total_bytes() const {
    return kProcessBytes + base_bytes + activation_bytes + scratch_bytes + own_bytes();
  }
  // "base 513 MiB, adapter 9 MiB, ..."
  std::string Text() const;
};

// A pass over the micro-batches of both.
trainer::WorkspaceSize Together(const trainer::WorkspaceSize& a, const trainer::WorkspaceSize& b);

// MemoryPlan::scratch_bytes of a pass.
int64_t PlanScratch(const trainer::Backend& backend, const trainer::ModelConfig& config,
                    const trainer::WorkspaceSize& pass);

// What jobs of one base need that train together, beside the process; `plans` not empty.
int64_t CohortMemory(const trainer::Backend& backend, const trainer::ModelConfig& config,
                     absl::Span<const MemoryPlan* const> plans);

MemoryPlan PlanMemory(const trainer::Backend& backend, const trainer::ModelConfig& config,
                      int64_t base_bytes, absl::Span<const trainer::LoraTarget> targets,
                      int64_t micro_batch_tokens, const trainer::TrainingData& data);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_MEMORY_PLAN_H_

// MemoryBound: an upper bound of the memory that a worker needs for one job alone, before it runs.
//
// It adds up what trainer/model/workspace.h, trainer/lora/adapter.h and the mapped base take, from
// the base's config and the job's spec, with what a worker holds beside them. It never says less
// than they do (memory_bound_test.cc asks them), nor less than the worker's own plan
// (tests/parity): else a job would be placed where it is refused. Sums are in bytes. Pure function.

#ifndef DELTAWORKS_SERVICES_STORE_MEMORY_BOUND_H_
#define DELTAWORKS_SERVICES_STORE_MEMORY_BOUND_H_

#include <cstdint>

#include "absl/types/span.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/config.h"

namespace deltaworks::services {

struct MemoryNeed {
  int64_t base_bytes = 0;     // Of the base's files.
  int64_t compute_bytes = 4;  // Of one number of the compute type: 2 or 4.
  int64_t micro_batch_tokens = 0;
  int64_t data_tokens = 0;  // Of training and validation data, which a worker keeps in memory.
};

int64_t MemoryBound(const trainer::ModelConfig& config,
                    absl::Span<const trainer::LoraTarget> targets, const MemoryNeed& need);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_MEMORY_BOUND_H_

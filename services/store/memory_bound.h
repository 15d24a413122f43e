// MemoryBound: an upper bound of the memory that a worker needs for a job, before any worker is
// known, in parts that can be added up for jobs that train together (v1::MemoryNeed has the sum).
//
// It adds up what trainer/model/workspace.h, trainer/lora/adapter.h, the cpu backend's scratch and
// the mapped base take, from the base's config and the job's spec, with what a worker holds beside
// them. It never says less than they do (memory_bound_test.cc asks them), nor, for any jobs of one
// base, less than the worker's own plan of them (tests/parity): else they would be placed where
// they are refused. All is in bytes. Pure functions.

#ifndef DELTAWORKS_SERVICES_STORE_MEMORY_BOUND_H_
#define DELTAWORKS_SERVICES_STORE_MEMORY_BOUND_H_

#include <cstdint>

#include "absl/types/span.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/config.h"

namespace deltaworks::services {

struct JobSize {
  int64_t base_bytes = 0;     // Of the base's files.
  int64_t compute_bytes = 4;  // Of one number of the compute type: 2 or 4.
  int64_t micro_batch_tokens = 0;
  // Of training and validation data, which a worker keeps in memory.
  int64_t data_examples = 0;
  int64_t data_tokens = 0;
};

// own_bytes is rounded up to 5 significant binary digits, so that jobs that differ little are alike
// to the scheduler.
v1::MemoryNeed MemoryNeedOf(const trainer::ModelConfig& config,
                            absl::Span<const trainer::LoraTarget> targets, const JobSize& size);

// Of jobs of one base and compute type that train together, `jobs` not empty.
int64_t MemoryBound(absl::Span<const v1::MemoryNeed> jobs);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_MEMORY_BOUND_H_

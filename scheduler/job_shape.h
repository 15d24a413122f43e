// JobShape: what placement needs to know of a job.
//
// Jobs of one shape are alike to every question of where to run. So the queue keeps its jobs by
// shape, and a plan asks once for each shape, not once for each job: a million waiting jobs have
// few shapes. Numbers that differ a little from job to job are rounded up for that. Plain data.

#ifndef DELTAWORKS_SCHEDULER_JOB_SHAPE_H_
#define DELTAWORKS_SCHEDULER_JOB_SHAPE_H_

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/event.pb.h"
#include "scheduler/options.h"

namespace deltaworks::scheduler {

// Of v1::MemoryNeed.
inline constexpr int kHiddenGroupsMax = 8;

// v1::MemoryNeed of one job, or of jobs that train together.
struct MemoryParts {
  int64_t base_bytes = 0;
  int64_t own_bytes = 0;
  int64_t rows = 0;
  int64_t row_bytes = 0;
  int64_t pass_bytes = 0;
  std::array<int64_t, kHiddenGroupsMax> hidden_row_bytes = {};

  auto operator<=>(const MemoryParts&) const = default;

  // Adds a job: see v1::MemoryNeed for what adds up and of what the largest counts.
  void Add(const MemoryParts& job);
  // An upper bound, saturating.
  int64_t Bytes() const;
};

// Groups beyond kHiddenGroupsMax do not count: whoever adds jobs up must refuse them.
MemoryParts PartsOf(const v1::MemoryNeed& need);

// How many tokens of one pass would fit into `memory_bytes`, with all else as it is; 0: none.
int64_t RowsThatFit(MemoryParts memory, int64_t memory_bytes);

struct JobShape {
  // Jobs with equal ones may share a worker: base, compute type, and the tenant if it wants no
  // other beside it. Empty: the job runs alone.
  std::string cohort;
  std::string base_manifest_digest;
  v1::NumberType compute_type = v1::NUMBER_TYPE_UNSPECIFIED;
  std::string device_kind;                                  // Empty: any.
  std::vector<std::pair<std::string, std::string>> labels;  // By key.
  // Of the first attempt; empty before it. `exact`: no other, however long it takes.
  std::string numerics_class;
  bool exact = false;
  // Alone on a worker; 0: not known.
  int64_t memory_bytes = 0;
  MemoryParts memory;
  // Workers that it needs at the same time.
  int32_t gang_size = 1;
  // Of one pass, rounded up to 3 binary digits.
  int64_t pass_tokens = 0;

  auto operator<=>(const JobShape&) const = default;

  bool alone() const { return cohort.empty(); }
};

// `options`: the operator's bounds on sharing.
JobShape ShapeOf(const JobRecord& record, const Options& options);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_JOB_SHAPE_H_

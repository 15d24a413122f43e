#include "scheduler/job_shape.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "absl/strings/str_cat.h"
#include "scheduler/job_record.h"
#include "scheduler/resource_name.h"

namespace deltaworks::scheduler {
namespace {

int64_t RoundUp(int64_t value, int binary_digits) {
  if (value <= 0) return 0;
  const int extra = static_cast<int>(std::bit_width(static_cast<uint64_t>(value))) - binary_digits;
  if (extra <= 0) return value;
  const int64_t unit = int64_t{1} << extra;
  if (value > std::numeric_limits<int64_t>::max() - unit) return value;
  return (value + unit - 1) / unit * unit;
}

// Whether its memory can be added to that of others.
bool IsSummable(const v1::MemoryNeed& need) {
  const auto& hidden = need.hidden_row_bytes();
  return need.rows() > 0 && need.base_bytes() >= 0 && need.own_bytes() >= 0 &&
         need.row_bytes() >= 0 && need.pass_bytes() >= 0 && hidden.size() <= kHiddenGroupsMax &&
         std::all_of(hidden.begin(), hidden.end(), [](int64_t bytes) { return bytes >= 0; });
}

std::string CohortOf(const JobRecord& record, const Options& options) {
  const v1::Job& job = record.job();
  const v1::TrainFacts& facts = job.status().facts();
  const v1::Placement::Cohort wanted =
      std::max({job.placement().cohort(), options.cohort_floor, v1::Placement::COHORT_ANY});
  if (wanted == v1::Placement::COHORT_ALONE || GangSizeOf(job) > 1 || record.run_alone() ||
      options.attempts_per_worker == 1 || !IsSummable(facts.memory())) {
    return "";
  }
  return absl::StrCat(
      facts.base_manifest_digest(), " ", static_cast<int>(job.train().compute_type()),
      wanted == v1::Placement::COHORT_TENANT ? absl::StrCat(" ", TenantOf(job.name())) : "");
}

}  // namespace

MemoryParts PartsOf(const v1::MemoryNeed& need) {
  MemoryParts parts = {.base_bytes = need.base_bytes(),
                       .own_bytes = need.own_bytes(),
                       .rows = need.rows(),
                       .row_bytes = need.row_bytes(),
                       .pass_bytes = need.pass_bytes()};
  for (int i = 0; i < std::min(need.hidden_row_bytes_size(), kHiddenGroupsMax); ++i) {
    parts.hidden_row_bytes[i] = need.hidden_row_bytes(i);
  }
  return parts;
}

void MemoryParts::Add(const MemoryParts& job) {
  base_bytes = std::max(base_bytes, job.base_bytes);
  own_bytes += job.own_bytes;
  rows += job.rows;
  row_bytes = std::max(row_bytes, job.row_bytes);
  pass_bytes = std::max(pass_bytes, job.pass_bytes);
  for (int i = 0; i < kHiddenGroupsMax; ++i) {
    hidden_row_bytes[i] = std::max(hidden_row_bytes[i], job.hidden_row_bytes[i]);
  }
}

int64_t MemoryParts::Bytes() const {
  // In double: the numbers come from outside, and what is near 2^63 fits no worker anyway.
  double row = static_cast<double>(row_bytes);
  for (const int64_t hidden : hidden_row_bytes) row += static_cast<double>(hidden);
  const double bytes = static_cast<double>(base_bytes) + static_cast<double>(own_bytes) +
                       static_cast<double>(pass_bytes) + static_cast<double>(rows) * row;
  constexpr double kMax = 9.2e18;
  return bytes < kMax ? static_cast<int64_t>(bytes) : std::numeric_limits<int64_t>::max();
}

int64_t RowsThatFit(MemoryParts memory, int64_t memory_bytes) {
  memory.rows = 0;
  const int64_t fixed = memory.Bytes();
  memory.rows = 1;
  const int64_t by_row = memory.Bytes() - fixed;
  return by_row <= 0 ? 0 : std::max<int64_t>(0, (memory_bytes - fixed) / by_row);
}

JobShape ShapeOf(const JobRecord& record, const Options& options) {
  const v1::Job& job = record.job();
  const v1::TrainFacts& facts = job.status().facts();
  JobShape shape = {
      .cohort = CohortOf(record, options),
      .base_manifest_digest = facts.base_manifest_digest(),
      .compute_type = job.train().compute_type(),
      .device_kind = job.placement().device_kind(),
      .numerics_class = job.status().numerics_class(),
      .exact = job.placement().resume_policy() == v1::Placement::EXACT,
      .memory_bytes = std::max(facts.memory_bytes_max(), job.placement().memory_bytes_min()),
      .gang_size = GangSizeOf(job)};
  for (const auto& [key, value] : job.placement().worker_labels()) {
    shape.labels.emplace_back(key, value);
  }
  std::sort(shape.labels.begin(), shape.labels.end());
  if (!shape.alone()) {
    shape.memory = PartsOf(facts.memory());
    shape.memory.own_bytes = RoundUp(shape.memory.own_bytes, 5);
  }
  const int64_t rows = job.train().micro_batch_tokens();
  const int64_t step = std::max<int64_t>(1, facts.step_tokens());
  shape.pass_tokens = RoundUp(rows > 0 ? std::min(rows, step) : step, 3);
  return shape;
}

}  // namespace deltaworks::scheduler

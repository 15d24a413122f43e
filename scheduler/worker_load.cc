#include "scheduler/worker_load.h"

#include <algorithm>
#include <utility>

#include "glog/logging.h"

namespace deltaworks::scheduler {
namespace {

bool ByJob(const WorkerLoad::Piece& piece, absl::string_view job) { return piece.job < job; }

}  // namespace

void WorkerLoad::Add(Piece piece) {
  const auto at = std::lower_bound(pieces_.begin(), pieces_.end(), piece.job, ByJob);
  CHECK(at == pieces_.end() || at->job != piece.job) << piece.job << " is on the worker already";
  pieces_.insert(at, std::move(piece));
  Sum();
}

bool WorkerLoad::Remove(absl::string_view job) {
  const auto at = std::lower_bound(pieces_.begin(), pieces_.end(), job, ByJob);
  if (at == pieces_.end() || at->job != job) return false;
  pieces_.erase(at);
  Sum();
  return true;
}

void WorkerLoad::Sum() {
  memory_ = MemoryParts();
  pass_tokens_ = 0;
  pass_tokens_min_ = pieces_.empty() ? 0 : pieces_[0].shape.pass_tokens;
  remaining_flops_ = 0;
  lowest_class_ = v1::PriorityClass_MAX + 1;
  cohort_ = pieces_.empty() ? "" : pieces_[0].shape.cohort;
  for (const Piece& piece : pieces_) {
    memory_.Add(piece.shape.memory);
    pass_tokens_ += piece.shape.pass_tokens;
    pass_tokens_min_ = std::min(pass_tokens_min_, piece.shape.pass_tokens);
    remaining_flops_ += piece.remaining_flops;
    if (!piece.leaving) lowest_class_ = std::min<int>(lowest_class_, piece.priority_class);
    if (piece.alone || piece.shape.cohort != cohort_) cohort_.clear();
  }
}

bool WorkerLoad::Admits(const JobShape& shape, int64_t memory_bytes, double overhead_tokens,
                        const Options& options) const {
  if (empty()) return true;
  if (Full(options) || shape.cohort != cohort_) return false;
  const auto tokens = static_cast<double>(shape.pass_tokens);
  if (overhead_tokens + tokens < options.cohort_gain_min * tokens) return false;
  if (SlowDown(pass_tokens_ + shape.pass_tokens, std::min(pass_tokens_min_, shape.pass_tokens),
               overhead_tokens) > options.cohort_slowdown_max) {
    return false;
  }
  MemoryParts together = memory_;
  together.Add(shape.memory);
  return together.Bytes() <= memory_bytes;
}

double SlowDown(int64_t together, int64_t alone, double overhead_tokens) {
  return (overhead_tokens + static_cast<double>(together)) /
         (overhead_tokens + static_cast<double>(alone));
}

}  // namespace deltaworks::scheduler

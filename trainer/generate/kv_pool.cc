#include "trainer/generate/kv_pool.h"

#include <utility>

#include "glog/logging.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {

absl::StatusOr<std::unique_ptr<KvPool>> KvPool::Create(Backend& backend, const ModelConfig& config,
                                                       int64_t rows) {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<KvCache> cache, KvCache::Create(backend, config, rows));
  return std::unique_ptr<KvPool>(new KvPool(std::move(cache)));
}

std::optional<int64_t> KvPool::FindGap(int64_t count) const {
  CHECK_GE(count, 1);
  int64_t begin = 0;
  for (const auto& [taken, length] : runs_) {
    if (taken - begin >= count) break;
    begin = taken + length;
  }
  if (rows() - begin < count) return std::nullopt;
  return begin;
}

std::optional<int64_t> KvPool::Take(int64_t count) {
  const std::optional<int64_t> begin = FindGap(count);
  if (!begin.has_value()) return begin;
  runs_[*begin] = count;
  rows_taken_ += count;
  return begin;
}

void KvPool::Give(int64_t begin) {
  const auto run = runs_.find(begin);
  CHECK(run != runs_.end()) << "no run begins at row " << begin;
  rows_taken_ -= run->second;
  runs_.erase(run);
}

}  // namespace deltaworks::trainer

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

std::optional<int64_t> KvPool::Take(int64_t count) {
  CHECK_GE(count, 1);
  int64_t begin = 0;
  for (const auto& [taken, length] : runs_) {
    if (taken - begin >= count) break;
    begin = taken + length;
  }
  if (rows() - begin < count) return std::nullopt;
  runs_[begin] = count;
  rows_taken_ += count;
  return begin;
}

void KvPool::Give(int64_t begin) {
  const auto run = runs_.find(begin);
  CHECK(run != runs_.end()) << "no run begins at row " << begin;
  rows_taken_ -= run->second;
  runs_.erase(run);
}

int64_t KvPool::RowBytes(const Backend& backend, const ModelConfig& config) {
  return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim *
         SizeOf(backend.compute_type());
}

}  // namespace deltaworks::trainer

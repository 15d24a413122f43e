#include "trainer/generate/kv_pool.h"

#include <utility>

#include "glog/logging.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {

absl::StatusOr<std::unique_ptr<KvPool>> KvPool::Create(Backend& backend, const ModelConfig& config,
                                                       int64_t rows) {
  DW_ASSIGN_OR_RETURN(std::unique_ptr<KvCache> cache,
                      KvCache::Create(backend, config, PagesFor(rows) * kKeyPage));
  return std::unique_ptr<KvPool>(new KvPool(std::move(cache)));
}

KvPool::KvPool(std::unique_ptr<KvCache> cache) : cache_(std::move(cache)) {
  for (int64_t page = 0; page < rows() / kKeyPage; ++page) {
    free_.insert(free_.end(), static_cast<int32_t>(page));
  }
}

int64_t KvPool::PagesFor(int64_t tokens) {
  CHECK_GE(tokens, 1);
  return (tokens + kKeyPage - 1) / kKeyPage;
}

int64_t KvPool::rows_taken() const { return rows() - std::ssize(free_) * kKeyPage; }

std::vector<int32_t> KvPool::Take(int64_t tokens) {
  if (!Fits(tokens)) return {};
  const auto end = std::next(free_.begin(), PagesFor(tokens));
  std::vector<int32_t> pages(free_.begin(), end);
  free_.erase(free_.begin(), end);
  return pages;
}

void KvPool::Give(const std::vector<int32_t>& pages) {
  for (const int32_t page : pages) {
    CHECK(page >= 0 && page < rows() / kKeyPage && free_.insert(page).second)
        << "page " << page << " was not taken";
  }
}

}  // namespace deltaworks::trainer

// KvPool: one KvCache whose rows several generators share, so that what all streams of a base keep
// in memory has one bound, whichever weights (base, merged) they run on and however long each is.
//
// Rows are handed out in pages of kKeyPage, which need not be adjacent (Kwon et al. 2023,
// PagedAttention): whatever comes and goes, a stream fits if there are enough rows. A stream takes
// pages for its prompt and every token it may still generate, and gives them back at its end. The
// lowest are taken first, so memory that a device commits on first touch stays as small as what is
// in use at a time.
//
// Thread-compatible. `backend` must outlive it.

#ifndef DELTAWORKS_TRAINER_GENERATE_KV_POOL_H_
#define DELTAWORKS_TRAINER_GENERATE_KV_POOL_H_

#include <cstdint>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/model/kv_cache.h"

namespace deltaworks::trainer {

class KvPool {
 public:
  // Of `rows` rows of every layer, made whole pages. ResourceExhausted if the device has no room.
  static absl::StatusOr<std::unique_ptr<KvPool>> Create(Backend& backend, const ModelConfig& config,
                                                        int64_t rows);

  // Pages for `tokens` >= 1 tokens, in the order of AttentionSpan::pages; empty if there are not
  // so many.
  std::vector<int32_t> Take(int64_t tokens);
  // Whether Take() would find them.
  bool Fits(int64_t tokens) const { return PagesFor(tokens) <= std::ssize(free_); }
  // What Take() returned, once.
  void Give(const std::vector<int32_t>& pages);

  int64_t rows() const { return cache_->rows(); }
  int64_t rows_taken() const;
  KvCache& cache() { return *cache_; }

 private:
  explicit KvPool(std::unique_ptr<KvCache> cache);
  static int64_t PagesFor(int64_t tokens);

  const std::unique_ptr<KvCache> cache_;
  std::set<int32_t> free_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_GENERATE_KV_POOL_H_

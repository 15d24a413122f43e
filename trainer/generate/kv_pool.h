// KvPool: one KvCache whose rows several generators share, so that what all streams of a base keep
// in memory has one bound, whichever weights (base, merged) they run on and however long each is.
//
// A stream takes one run of adjacent rows, for its prompt and every token it may still generate,
// and gives it back at its end. Runs are taken first-fit, from the lowest row, so memory that a
// device commits on first touch stays as small as what is in use at a time.
//
// Thread-compatible. `backend` must outlive it.

#ifndef DELTAWORKS_TRAINER_GENERATE_KV_POOL_H_
#define DELTAWORKS_TRAINER_GENERATE_KV_POOL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "trainer/model/kv_cache.h"

namespace deltaworks::trainer {

class KvPool {
 public:
  // ResourceExhausted if the device has no room for `rows` rows of every layer.
  static absl::StatusOr<std::unique_ptr<KvPool>> Create(Backend& backend, const ModelConfig& config,
                                                        int64_t rows);

  // The first of `count` >= 1 adjacent rows; nullopt if no gap is as long.
  std::optional<int64_t> Take(int64_t count);
  // Whether Take() would find one.
  bool Fits(int64_t count) const { return FindGap(count).has_value(); }
  // What Take() returned, once.
  void Give(int64_t begin);

  int64_t rows() const { return cache_->rows(); }
  int64_t rows_taken() const { return rows_taken_; }
  KvCache& cache() { return *cache_; }

 private:
  explicit KvPool(std::unique_ptr<KvCache> cache) : cache_(std::move(cache)) {}
  std::optional<int64_t> FindGap(int64_t count) const;

  const std::unique_ptr<KvCache> cache_;
  std::map<int64_t, int64_t> runs_;  // begin -> count of those taken.
  int64_t rows_taken_ = 0;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_GENERATE_KV_POOL_H_

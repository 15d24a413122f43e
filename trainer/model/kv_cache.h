// KvCache: keys and values of tokens that were processed, for generation. A flat table of rows;
// whoever generates gives each stream pages of them (AttentionSpan).
// Thread-compatible. `backend` must outlive it.

#ifndef DELTAWORKS_TRAINER_MODEL_KV_CACHE_H_
#define DELTAWORKS_TRAINER_MODEL_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/backend/backend.h"
#include "trainer/model/config.h"

namespace deltaworks::trainer {

class KvCache {
 public:
  // ResourceExhausted if the device has no room for `rows` rows of every layer.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(Backend& backend,
                                                         const ModelConfig& config, int64_t rows);

  int64_t rows() const { return rows_; }
  TensorView keys(int64_t layer) const { return layers_[layer].keys; }
  TensorView values(int64_t layer) const { return layers_[layer].values; }

 private:
  struct Layer {
    TensorView keys;  // [rows, kv_heads * head_dim] compute.
    TensorView values;
  };
  explicit KvCache(int64_t rows) : rows_(rows) {}

  const int64_t rows_;
  std::unique_ptr<DeviceBuffer> buffer_;
  std::vector<Layer> layers_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_MODEL_KV_CACHE_H_

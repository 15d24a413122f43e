#include "trainer/model/kv_cache.h"

#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(Backend& backend,
                                                         const ModelConfig& config, int64_t rows) {
  auto cache = std::unique_ptr<KvCache>(new KvCache(rows));
  const int64_t width = config.num_key_value_heads * config.head_dim;
  const DType type = backend.compute_type();
  const int64_t bytes = rows * width * SizeOf(type);
  DW_ASSIGN_OR_RETURN(cache->buffer_, backend.Allocate(2 * config.num_hidden_layers * bytes));
  char* at = static_cast<char*>(cache->buffer_->data());
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    cache->layers_.push_back(
        {TensorView{at, type, {rows, width}}, TensorView{at + bytes, type, {rows, width}}});
    at += 2 * bytes;
  }
  return cache;
}

}  // namespace deltaworks::trainer

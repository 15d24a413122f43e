#include "services/store/memory_bound.h"

#include <algorithm>

#include "trainer/model/workspace.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kWide = 4;  // f32.
constexpr int64_t kIndex = 4;
// Rows and single pieces of the workspace are rounded up to at most so much.
constexpr int64_t kRowAlignment = 256;
// Arrays of the adapter's size besides it: the checkpoints that a worker makes, sends and holds
// back (16), and the result as it is read back (3). services/worker/memory_plan.cc counts them.
constexpr int64_t kCopies = 16 + 3;
// Programs, libraries, scratch of products and of the chunked loss.
constexpr int64_t kFixedBytes = int64_t{512} << 20;

// Activations of one row: kept for every layer, and once.
int64_t RowBytes(const trainer::ModelConfig& config, absl::Span<const trainer::LoraTarget> targets,
                 int64_t compute) {
  const int64_t d = config.hidden_size, inner = config.intermediate_size;
  const int64_t query = config.num_attention_heads * config.head_dim;
  const int64_t key = config.num_key_value_heads * config.head_dim;
  const auto hidden = trainer::HiddenColumns(targets);
  int64_t hidden_sum = 0;
  for (const int64_t columns : hidden) hidden_sum += columns;
  const int64_t layer = kWide * (2 * d + 2 + config.num_attention_heads) +
                        compute * (2 * query + 2 * key + 2 * inner + hidden_sum);
  const int64_t forward = 2 * kIndex + kWide * (d + 1) + compute * (2 * d + inner);
  const int64_t labels = 2 * kIndex + 2 * kWide + 2 * compute * d;
  const int64_t backward = kWide * d + compute * (2 * d + 2 * query + 2 * key + 3 * inner +
                                                  *std::max_element(hidden.begin(), hidden.end()));
  return config.num_hidden_layers * layer + forward + labels + backward;
}

}  // namespace

int64_t MemoryBound(const trainer::ModelConfig& config,
                    absl::Span<const trainer::LoraTarget> targets, const MemoryNeed& need) {
  const int64_t rows =
      (need.micro_batch_tokens + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
  // Masters, gradients and two moments, and the rounded copy; once more as the result's probe.
  const int64_t adapter =
      trainer::TrainableParameters(targets) * ((4 + 1 + kCopies) * kWide + 2 * need.compute_bytes);
  const int64_t rope = config.max_position_embeddings * config.head_dim * kWide;
  // An id and a label flag, with the room that a growing vector leaves.
  const int64_t data = need.data_tokens * 2 * (kIndex + 1);
  const int64_t sum = need.base_bytes + adapter + rope + data +
                      rows * RowBytes(config, targets, need.compute_bytes);
  return kFixedBytes + sum + sum / 20;
}

}  // namespace deltaworks::services

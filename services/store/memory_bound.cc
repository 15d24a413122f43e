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
// Programs and libraries.
constexpr int64_t kFixedBytes = int64_t{64} << 20;
// Threads of a worker, at most: each has scratch of its own.
constexpr int64_t kThreads = 64;

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

// What operations need beside activations: trainer/backend/cpu has it exactly. A loss has tiles of
// 128 rows or 32 MiB; attention widens keys and values, and each head's gradients; each thread
// packs 64 columns of the widest weight, and sums of that width for all rows.
int64_t ScratchBytes(const trainer::ModelConfig& config,
                     absl::Span<const trainer::LoraTarget> targets, int64_t rows, int64_t compute) {
  constexpr int64_t kTileBytes = int64_t{32} << 20, kTileRows = 128, kPanel = 64;
  const auto groups = trainer::HiddenColumns(targets);
  const int64_t hidden = *std::max_element(groups.begin(), groups.end());
  const int64_t d = config.hidden_size, vocabulary = config.vocab_size;
  // Of the vocabulary, in the gradient of the loss, and rows of one tile there.
  const int64_t chunk = std::min<int64_t>(2048, 8 * (vocabulary + kPanel));
  const int64_t tile_rows = std::min(rows, kTileBytes / (vocabulary * compute) + kTileRows);
  const int64_t width = (config.head_dim + 15) / 16 * 16;
  const int64_t heads = 2 * config.num_attention_heads + 3 * config.num_key_value_heads;
  const int64_t features =
      std::max(2 * config.intermediate_size,
               (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim + d);
  const int64_t loss = std::max(kTileBytes, kTileRows * vocabulary * compute) +
                       std::max(kTileBytes, 16 * kTileRows * d * kWide) +
                       rows * vocabulary / kPanel * kWide;
  const int64_t attention = (rows + 2 * kPanel) * heads * width * kWide;
  const int64_t adapters =
      hidden * d * compute + (rows + 4 * kPanel) * kPanel * kWide * (2 * hidden / kPanel + 6);
  const int64_t thread = 2 * features * kPanel * kWide + 5 * rows * kPanel * kWide +
                         rows * (4 * width + 2 + hidden) * kWide +
                         4 * kPanel * kWide * (d + chunk) + tile_rows * chunk * compute;
  return std::max({loss, attention, adapters}) + rows * features * compute + kThreads * thread;
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
                      rows * RowBytes(config, targets, need.compute_bytes) +
                      ScratchBytes(config, targets, rows, need.compute_bytes);
  return kFixedBytes + sum + sum / 20;
}

}  // namespace deltaworks::services

#include "services/store/memory_bound.h"

#include <algorithm>
#include <array>

#include "scheduler/job_shape.h"
#include "trainer/model/workspace.h"

namespace deltaworks::services {
namespace {

constexpr int64_t kWide = 4;  // f32.
constexpr int64_t kIndex = 4;
// Rows of a job are rounded up to so many, so that a pass of T rows has at most T / 64 segments.
constexpr int64_t kRowsMultiple = 64;
// Single pieces of the workspace are rounded up to so much: 15 for each layer and 25 others.
constexpr int64_t kAlignment = 64;
// Arrays of the adapter's size besides it: the checkpoints that a worker makes, sends and holds
// back (16), and the result as it is read back (3). services/worker/memory_plan.cc counts them.
constexpr int64_t kCopies = 16 + 3;
// A result's probe: its pass, and a logit as a double and as a float. services/worker/probe.h.
constexpr int64_t kProbeRows = 512, kProbeLabels = 64, kLogitBytes = 4 + 8 + 4;
// Programs and libraries.
constexpr int64_t kProcessBytes = int64_t{64} << 20;
// Threads of a worker, at most: each has scratch of its own.
constexpr int64_t kThreads = 64;

int64_t CeilDiv(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

// The numbers of a model that the sums below are made of.
struct Shape {
  Shape(const trainer::ModelConfig& config, int64_t compute_bytes)
      : layers(config.num_hidden_layers),
        width(config.hidden_size),
        inner(config.intermediate_size),
        vocabulary(config.vocab_size),
        query_heads(config.num_attention_heads),
        key_heads(config.num_key_value_heads),
        query(query_heads * config.head_dim),
        key(key_heads * config.head_dim),
        head(CeilDiv(config.head_dim, 16) * 16),
        features(std::max({query + 2 * key, 2 * inner, width})),
        compute(compute_bytes) {}

  const int64_t layers, width, inner, vocabulary, query_heads, key_heads;
  const int64_t query, key;  // Columns of all heads.
  const int64_t head;        // Of one head, as the cpu backend packs it.
  const int64_t features;    // Outputs of a group of linears, all together: the most.
  const int64_t compute;     // Bytes of a number.
};

// Activations, by row, without hidden columns. trainer/model/workspace.cc, in its order.
int64_t LayerRow(const Shape& s) {
  return kWide * (2 * s.width + 2 + s.query_heads) +
         s.compute * (2 * s.query + 2 * s.key + 2 * s.inner);
}
int64_t ForwardRow(const Shape& s) {
  return 2 * kIndex + kWide * (s.width + 1) + s.compute * (2 * s.width + s.inner);
}
int64_t LabelRow(const Shape& s) { return 2 * kIndex + 2 * kWide + 2 * s.compute * s.width; }
int64_t BackwardRow(const Shape& s) {
  return kWide * s.width + s.compute * (2 * s.width + 2 * s.query + 2 * s.key + 3 * s.inner);
}

// At most fixed + rows * (row + columns * column), where `columns` are those of the group of
// linears that has most.
struct Scratch {
  int64_t fixed = 0, row = 0, column = 0;
};
Scratch MaxOf(const Scratch& a, const Scratch& b) {
  return {std::max(a.fixed, b.fixed), std::max(a.row, b.row), std::max(a.column, b.column)};
}

// What operations need beside activations: trainer/backend/cpu has it exactly, and its names.
// Operations come one after the other, so the most of each counts. `columns` of this job are in
// what is fixed; where a pass has other columns on its rows, they are in `column`.
constexpr int64_t kPanel = 64, kPanelBytes = kPanel * kWide;
constexpr int64_t kOthers = int64_t{64} << 10;

// A loss has tiles of 128 rows or 32 MiB, at most the pass's rows. So that few rows of a toy need
// little, and many of a language model no more, rows count only where a tile has very many.
Scratch OfLossTile(const Shape& s, int64_t row) {
  constexpr int64_t kTileBytes = int64_t{32} << 20, kTileRows = 128, kManyRows = 2'048;
  const int64_t filled = std::max(s.vocabulary * s.compute, 16 * s.width * kWide);
  const int64_t rows = kTileRows * std::max<int64_t>(1, kTileBytes / (kTileRows * filled));
  return rows <= kManyRows ? Scratch{.fixed = rows * row} : Scratch{.row = row};
}
// The softmax has wide panels, and its gradient takes 8 of them at a time.
constexpr int64_t kWidePanel = 4 * kPanel;
Scratch LossShared(const Shape& s) {
  const int64_t floats = 16 * s.width + 2 * CeilDiv(s.vocabulary, kWidePanel) + 2;
  return OfLossTile(s, s.vocabulary * s.compute + floats * kWide);
}
Scratch LossOfThread(const Shape& s) {
  const int64_t chunk = 8 * std::min(kWidePanel, CeilDiv(s.vocabulary, kPanel) * kPanel);
  const int64_t forward = 4 * (s.width + 1) * kPanelBytes + 128 * kWidePanel * kWide;
  Scratch need = OfLossTile(s, chunk * s.compute);
  need.fixed = std::max(forward, need.fixed + (chunk + 1) * kPanelBytes) + 128 * kPanelBytes;
  need.row += kPanelBytes;
  return need;
}

// Keys and values are widened and packed, and each query head has gradients of its own.
Scratch AttentionShared(const Shape& s) {
  const int64_t packed = 3 * s.key_heads * s.head * kWide;
  return {.fixed = kPanel * packed, .row = packed + 2 * s.query_heads * s.head * kWide};
}
Scratch AttentionOfThread(const Shape& s) {
  constexpr int64_t kQueries = 48;
  const int64_t group = s.query_heads / s.key_heads;
  const int64_t forward = kQueries * (2 * s.head + 1 + kPanel) + group * (2 * s.head + 17);
  return {.fixed = (forward + 2 * kQueries * kPanel) * kWide,
          .row = std::max(4 * s.head + 2, group) * kWide};
}

// A of each segment, and hidden values transposed in tiles of 1,024 rows, each of which, and each
// segment, adds up to 33: with T / 64 segments, T + 33 (T / 1024 + T / 64) < 25 T / 16.
Scratch LinearShared(const Shape& s, int64_t columns) {
  constexpr int64_t kTransposed = kPanelBytes * 25 / 16;
  return {.fixed = (2 * columns / kPanel + 5) * kPanelBytes,
          .row = 1 + 5 * kTransposed,
          .column = CeilDiv(s.width * s.compute, kRowsMultiple) + CeilDiv(2 * kTransposed, kPanel)};
}
// The widest weight's panel.
int64_t BasePanel(const Shape& s) { return (s.features + s.features / 4096 + 3) * kPanelBytes; }
// Sums of the base and of pieces, with a panel of each segment's B; backward of hidden values and
// sums over tokens need less.
Scratch OutputOfThread(const Shape& s) {
  return {.fixed = BasePanel(s), .row = 4 * kPanelBytes + 2 * kWide + 1, .column = kWide};
}
// Hidden values, of all threads: one alone takes all rows at once; of several each takes at most
// rows / (4 threads) + 129.
Scratch HiddenOfThreads(const Shape& s, int64_t columns) {
  const int64_t row = s.features * s.compute + kPanelBytes;
  return {.fixed = 129 * kThreads * (row + columns * kWide) + kThreads * BasePanel(s),
          .row = row,
          .column = kWide};
}

Scratch ScratchOf(const Shape& s, int64_t columns) {
  // Of products: trainer/backend/cpu/kernels/kernels.h.
  constexpr int64_t kProducts = 64 * (4096 + 32 * 8) + 8 * 4096 + 8192;
  const Scratch shared = MaxOf(MaxOf(LinearShared(s, columns), AttentionShared(s)), LossShared(s));
  Scratch threads = MaxOf(MaxOf(OutputOfThread(s), AttentionOfThread(s)), LossOfThread(s));
  threads = {kThreads * threads.fixed, kThreads * threads.row, kThreads * threads.column};
  threads = MaxOf(threads, HiddenOfThreads(s, columns));
  return {shared.fixed + kOthers + threads.fixed + kThreads * (kOthers + kProducts),
          shared.row + threads.row, shared.column + threads.column};
}

// Ids and label flags, with the room that a growing vector leaves.
int64_t DataBytes(const JobSize& size) {
  constexpr int64_t kExampleBytes = 64;
  return size.data_examples * kExampleBytes + size.data_tokens * 2 * kIndex +
         CeilDiv(size.data_tokens, 4);
}

int64_t ProbeBytes(const Shape& s, int64_t columns_sum) {
  return kProbeRows * (LayerRow(s) + ForwardRow(s) + columns_sum * s.compute) +
         kProbeLabels * (LabelRow(s) + s.vocabulary * kLogitBytes) + (15 + 25) * kAlignment;
}

// Masters, gradients and two moments, and the rounded copy if there is one; masters and copy once
// more for the probe.
int64_t AdapterBytes(const Shape& s, absl::Span<const trainer::LoraTarget> targets) {
  const int64_t rounded = s.compute < kWide ? s.compute : 0;
  return trainer::TrainableParameters(targets) * ((4 + 1 + kCopies) * kWide + 2 * rounded);
}

int64_t RoundUpToFiveDigits(int64_t bytes) {
  int64_t unit = 1;
  while (bytes > 31 * unit) unit *= 2;
  return CeilDiv(bytes, unit) * unit;
}

}  // namespace

v1::MemoryNeed MemoryNeedOf(const trainer::ModelConfig& config,
                            absl::Span<const trainer::LoraTarget> targets, const JobSize& size) {
  const Shape s(config, size.compute_bytes);
  const std::array<int64_t, trainer::kLinearGroups> hidden = trainer::HiddenColumns(targets);
  int64_t columns_sum = 0;
  for (const int64_t columns : hidden) columns_sum += columns;
  const Scratch scratch = ScratchOf(s, *std::max_element(hidden.begin(), hidden.end()));
  const int64_t rows = CeilDiv(size.micro_batch_tokens, kRowsMultiple) * kRowsMultiple;

  v1::MemoryNeed need;
  need.set_base_bytes(kProcessBytes + size.base_bytes +
                      config.max_position_embeddings * config.head_dim * kWide);
  need.set_own_bytes(
      RoundUpToFiveDigits(AdapterBytes(s, targets) + DataBytes(size) + ProbeBytes(s, columns_sum)));
  need.set_rows(rows);
  need.set_row_bytes(s.layers * LayerRow(s) + ForwardRow(s) + LabelRow(s) + BackwardRow(s) +
                     scratch.row);
  // The probe's scratch is that of a pass of its rows, which the job's own may be fewer than.
  need.set_pass_bytes((15 * s.layers + 25) * kAlignment + scratch.fixed +
                      std::max<int64_t>(0, kProbeRows - rows) *
                          (scratch.row + columns_sum * scratch.column));
  for (const int64_t columns : hidden) {
    // In each layer and once in the backward pass.
    need.add_hidden_row_bytes(columns * ((s.layers + 1) * s.compute + scratch.column));
  }
  return need;
}

int64_t MemoryBound(absl::Span<const v1::MemoryNeed> jobs) {
  scheduler::MemoryParts together;
  for (const v1::MemoryNeed& job : jobs) together.Add(scheduler::PartsOf(job));
  return together.Bytes();
}

}  // namespace deltaworks::services

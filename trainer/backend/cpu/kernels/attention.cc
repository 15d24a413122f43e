// Attention of one block of queries over blocks of keys, with the softmax built up as the blocks
// come (Milakov & Gimelshein 2018; Dao et al. 2022, FlashAttention). Compiled once for each
// instruction set.
//
// Forward computes scores transposed, [keys][queries]: a lane is a query, so that maxima and sums
// need no step across lanes. Backward, which has neither, computes [queries][keys]. Probabilities
// and gradients of scores enter the second products as elements of panels: bf16 where the
// instruction set multiplies it, f32 elsewhere. The softmax and all sums are f32.
//
// Scores that a query must not see are selected away before the exponential, never multiplied by
// zero, and sums over keys end at the last key: what lies behind a span cannot reach a result.

#include "trainer/backend/cpu/kernels/attention.h"

#include "trainer/backend/cpu/kernels/block_product.h"

namespace deltaworks::trainer::DW_ISA {
namespace {

constexpr float kLowest = -3.0e38f;

int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t Larger(int64_t a, int64_t b) { return a > b ? a : b; }
int64_t PanelsOf(int64_t columns) { return (columns + kPanelColumns - 1) / kPanelColumns; }
int64_t RoundUpToLanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// ---- Products ----

const char* At(const void* p, int64_t bytes) { return static_cast<const char*>(p) + bytes; }

// c = or += a times the columns of a matrix in panels, which stand `panel_bytes` apart. A depth
// that is no multiple of the step is rounded up: what is there is zero in one of the two.
template <typename Layout>
DW_INLINE void MultiplyPanels(BlockProduct<Layout> product, int64_t depth, const void* panels,
                              int64_t panel_bytes, int64_t columns) {
  product.steps = (depth + Layout::kStep - 1) / Layout::kStep;
  float* const c = product.c;
  for (int64_t column = 0; column < columns; column += kPanelColumns) {
    product.n = Smaller(kPanelColumns, columns - column);
    product.b = static_cast<const typename Layout::Element*>(panels);
    product.c = c + column;
    Multiply(product);
    panels = static_cast<const char*>(panels) + panel_bytes;
  }
}

// Writes lanes [column, column + 16) of rows j and j + 1 of a panel; j is even.
DW_INLINE void StoreToPanel(float* panel, int64_t j, int64_t column, F32 first, F32 second) {
  Store(panel + j * kPanelColumns + column, first);
  Store(panel + (j + 1) * kPanelColumns + column, second);
}
#if defined(__AVX512BF16__)
DW_INLINE void StoreToPanel(Bf16* panel, int64_t j, int64_t column, F32 first, F32 second) {
  alignas(64) static constexpr uint16_t kPairs[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                      21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                      11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512bh halves = _mm512_cvtne2ps_pbh(second.part[0], first.part[0]);
  _mm512_storeu_si512(
      panel + j * kPanelColumns + 2 * column,
      _mm512_permutexvar_epi16(_mm512_load_si512(kPairs), reinterpret_cast<__m512i>(halves)));
}
#endif

// ---- What a block of queries sees of a block of keys ----

// The part of a block of queries that sees keys of the block of keys beginning at `begin`: with
// causality, the first queries may see none of them and the last keys may be seen by none.
struct SeenPart {
  int64_t first_row;
  int64_t keys;  // At least 1.

  SeenPart(const QueryBlock& block, int64_t key_count, int64_t begin)
      : first_row(block.causal ? Larger(0, begin + 1 - block.visible) : 0),
        keys(Smaller(kKeyBlock,
                     (block.causal ? block.visible + block.rows - 1 : key_count) - begin)) {}

  // Of the vector that holds the first row.
  int64_t first_column() const { return first_row / kLanes * kLanes; }
};

// Which keys of a block the queries of a vector see: the first `count` ones of each lane.
struct SeenKeys {
  bool all;
  F32 count;

  SeenKeys(const QueryBlock& block, const SeenPart& part, int64_t begin, int64_t column) {
    const int64_t first =
        block.causal ? Smaller(kKeyBlock, block.visible + column - begin) : part.keys;
    all = first >= part.keys;
    count = Broadcast(static_cast<float>(first));
    if (block.causal) count = count + Iota();
  }
};

// x in the lanes that see key j, else other.
template <bool kAll>
DW_INLINE F32 WhereSeen(const SeenKeys& seen, int64_t j, F32 x, F32 other) {
  if constexpr (kAll) return x;
  return Select(Broadcast(static_cast<float>(j)) < seen.count, x, other);
}

// ---- Forward ----

// State of the softmax of a vector of queries, from block to block.
struct Softmax {
  float* max;
  float* sum;
  float* correction;  // The factor for what was summed with the old maximum.
};

// Scores [keys][queries] of a vector of queries become exp(score - max) in the panel p.
template <typename E, bool kAll>
DW_INLINE void OnlineSoftmax(const float* scores, int64_t keys, const SeenKeys& seen, float scale,
                             const Softmax& state, int64_t column, E* p) {
  const F32 factor = Broadcast(scale);
  const auto score = [&](int64_t j) { return Load(scores + j * kPanelColumns + column) * factor; };
  const F32 old_max = Load(state.max + column);
  F32 largest[2] = {old_max, old_max};
  for (int64_t j = 0; j < keys; ++j) {
    largest[j % 2] = Max(largest[j % 2], WhereSeen<kAll>(seen, j, score(j), Broadcast(kLowest)));
  }
  const F32 max = Max(largest[0], largest[1]);
  F32 total = Zero();
  const auto probability = [&](int64_t j) {
    const F32 result = WhereSeen<kAll>(seen, j, Exp(score(j) - max), Zero());
    total = total + result;
    return result;
  };
  int64_t j = 0;
  for (; j + 2 <= keys; j += 2) {
    const F32 first = probability(j);
    StoreToPanel(p, j, column, first, probability(j + 1));
  }
  if (j < keys) StoreToPanel(p, j, column, probability(j), Zero());
  const F32 correction = Exp(old_max - max);
  Store(state.correction + column, correction);
  Store(state.sum + column, Load(state.sum + column) * correction + total);
  Store(state.max + column, max);
}

template <typename Layout>
void Forward(const QueryBlock& block, const void* q_transposed, const PackedHead& head,
             int64_t head_dim, void* scratch, float* out, float* lse) {
  using E = typename Layout::Element;
  constexpr int kStep = Layout::kStep;
  const int64_t width = RoundUpToLanes(head_dim);
  float max[kQueryBlock], sum[kQueryBlock], correction[kQueryBlock];
  for (int64_t i = 0; i < kQueryBlock; ++i) {
    max[i] = kLowest;
    sum[i] = 0;
  }
  const Softmax state = {max, sum, correction};
  float* const scores = static_cast<float*>(scratch);
  // Where they are of one size, probabilities take the place of their scores.
  E* const p = reinterpret_cast<E*>(scores + (kStep == 1 ? 0 : kKeyBlock * kPanelColumns));
  const int64_t value_bytes = PanelsOf(width) * PanelBytes(kKeyBlock);
  const int64_t seen_keys = block.causal ? block.visible + block.rows - 1 : head.key_count;
  for (int64_t begin = 0; begin < seen_keys; begin += kKeyBlock) {
    const SeenPart part(block, head.key_count, begin);
    const int64_t first_column = part.first_column();
    MultiplyPanels<Layout>({.m = part.keys,
                            .a = static_cast<const E*>(head.keys) + begin * width,
                            .a_row = width,
                            .a_step = kStep,
                            .c = scores + first_column,
                            .c_row = kPanelColumns,
                            .accumulate = false},
                           head_dim, static_cast<const E*>(q_transposed) + first_column * kStep, 0,
                           RoundUpToLanes(block.rows) - first_column);
    for (int64_t column = first_column; column < block.rows; column += kLanes) {
      const SeenKeys seen(block, part, begin, column);
      if (seen.all) {
        OnlineSoftmax<E, true>(scores, part.keys, seen, block.scale, state, column, p);
      } else {
        OnlineSoftmax<E, false>(scores, part.keys, seen, block.scale, state, column, p);
      }
    }
    for (int64_t i = part.first_row; begin > 0 && i < block.rows; ++i) {
      if (correction[i] == 1) continue;
      float* const row = out + i * width;
      for (int64_t j = 0; j < width; j += kLanes) {
        Store(row + j, Load(row + j) * Broadcast(correction[i]));
      }
    }
    MultiplyPanels<Layout>(
        {.m = block.rows - part.first_row,
         .a = p + part.first_row * kStep,
         .a_row = kStep,
         .a_step = kPanelColumns * kStep,
         .c = out + part.first_row * width,
         .c_row = width,
         .accumulate = begin > 0},
        part.keys, static_cast<const char*>(head.value_panels) + begin / kKeyBlock * value_bytes,
        PanelBytes(kKeyBlock), width);
  }
  for (int64_t i = 0; i < block.rows; ++i) {
    const F32 factor = Broadcast(1.0f / sum[i]);
    float* const row = out + i * width;
    for (int64_t j = 0; j < width; j += kLanes) Store(row + j, Load(row + j) * factor);
    lse[i] = max[i] + __builtin_logf(sum[i]);
  }
}

// ---- Backward ----

// What the second products multiply: rows [queries][keys], and the panels of these blocks.
template <typename E>
struct ScoreGradients {
  E* ds;
  E* ds_panel;
  E* p_panel;
};

// One row of a block: p = exp(score - lse) and ds = p * (dp - delta).
struct RowGradient {
  F32 scale, lse, delta;
  float visible;  // Keys of the block that the row sees.

  RowGradient(const QueryBlock& block, const PackedQueries& queries, int64_t keys, int64_t begin,
              int64_t i)
      : scale(Broadcast(block.scale)), lse(Zero()), delta(Zero()), visible(0) {
    if (i >= block.rows) return;
    lse = Broadcast(queries.lse[i]);
    delta = Broadcast(queries.delta[i]);
    visible = static_cast<float>(Smaller(keys, block.causal ? block.visible + i - begin : keys));
  }

  DW_INLINE F32 WhereSeen(F32 x, int64_t column) const {
    return Select(Iota() < Broadcast(visible - static_cast<float>(column)), x, Zero());
  }
  DW_INLINE F32 Probability(const float* scores, int64_t column) const {
    return WhereSeen(Exp(Load(scores) * scale - lse), column);
  }
  DW_INLINE F32 OfScore(F32 p, const float* dp, int64_t column) const {
    return WhereSeen(p * (Load(dp) - delta), column);
  }
};

template <typename Layout>
void Backward(const QueryBlock& block, const PackedQueries& queries, const PackedHead& head,
              int64_t key_block, int64_t head_dim, void* scratch, float* dq, float* dkeys,
              float* dvalues) {
  using E = typename Layout::Element;
  constexpr int kStep = Layout::kStep;
  const int64_t width = RoundUpToLanes(head_dim);
  const int64_t begin = key_block * kKeyBlock;
  const SeenPart part(block, head.key_count, begin);
  const int64_t first = part.first_row / kStep * kStep;
  const int64_t rows = block.rows - first;
  const int64_t columns = RoundUpToLanes(part.keys);
  constexpr int64_t kBlock = kKeyBlock * kPanelColumns;
  float* const scores = static_cast<float*>(scratch);
  float* const dp = scores + kBlock;
  // Where they are of one size, results take the place of what they are made of.
  E* const behind = reinterpret_cast<E*>(dp + kBlock);
  ScoreGradients<E> gradients = {behind, behind + kBlock, behind + 2 * kBlock};
  if constexpr (kStep == 1) gradients = {dp, dp, scores};

  BlockProduct<Layout> product = {.m = rows,
                                  .a = static_cast<const E*>(queries.q) + first * width,
                                  .a_row = width,
                                  .a_step = kStep,
                                  .c = scores + first * kPanelColumns,
                                  .c_row = kPanelColumns};
  const int64_t transposed = key_block * PanelBytes(head_dim);
  MultiplyPanels(product, head_dim, At(head.keys_transposed, transposed), 0, columns);
  product.a = static_cast<const E*>(queries.dout) + first * width;
  product.c = dp + first * kPanelColumns;
  MultiplyPanels(product, head_dim, At(head.values_transposed, transposed), 0, columns);

  for (int64_t i = first; i < block.rows; i += 2) {
    const RowGradient even(block, queries, part.keys, begin, i),
        odd(block, queries, part.keys, begin, i + 1);
    for (int64_t j = 0; j < columns; j += kLanes) {
      const int64_t place = i * kPanelColumns + j;
      const F32 p[2] = {even.Probability(scores + place, j),
                        odd.Probability(scores + place + kPanelColumns, j)};
      const F32 ds[2] = {even.OfScore(p[0], dp + place, j),
                         odd.OfScore(p[1], dp + place + kPanelColumns, j)};
      StoreToPanel(gradients.p_panel, i, j, p[0], p[1]);
      StoreToPanel(gradients.ds_panel, i, j, ds[0], ds[1]);
      if constexpr (kStep == 2) {
        Store(gradients.ds + place, ds[0]);
        Store(gradients.ds + place + kPanelColumns, ds[1]);
      }
    }
  }

  product = {.m = rows,
             .a = gradients.ds + first * kPanelColumns,
             .a_row = kPanelColumns,
             .a_step = kStep,
             .c = dq + first * width,
             .c_row = width,
             .accumulate = true};
  MultiplyPanels(product, part.keys,
                 At(head.key_panels, key_block * PanelsOf(width) * PanelBytes(kKeyBlock)),
                 PanelBytes(kKeyBlock), width);
  product = {.m = part.keys,
             .a = gradients.ds_panel + first * kPanelColumns,
             .a_row = kStep,
             .a_step = kPanelColumns * kStep,
             .c = dkeys,
             .c_row = width,
             .accumulate = true};
  const int64_t skipped = first * kPanelColumns * sizeof(E);
  MultiplyPanels(product, rows, At(queries.q_panels, skipped), PanelBytes(kQueryBlock), width);
  product.a = gradients.p_panel + first * kPanelColumns;
  product.c = dvalues;
  MultiplyPanels(product, rows, At(queries.dout_panels, skipped), PanelBytes(kQueryBlock), width);
}

// ---- One query ----

// A row of `count` scores becomes exp(score - max), zero up to `columns`.
DW_INLINE void RowSoftmax(float* scores, int64_t count, int64_t columns, float* max, float* sum) {
  const auto seen = [&](int64_t j, F32 x, float other) {
    return Select(Iota() < Broadcast(static_cast<float>(count - j)), x, Broadcast(other));
  };
  F32 largest = Broadcast(kLowest);
  for (int64_t j = 0; j < columns; j += kLanes) {
    largest = Max(largest, seen(j, Load(scores + j), kLowest));
  }
  *max = ReduceMax(largest);
  F32 total = Zero();
  for (int64_t j = 0; j < columns; j += kLanes) {
    const F32 p = seen(j, Exp(Load(scores + j) - Broadcast(*max)), 0);
    Store(scores + j, p);
    total = total + p;
  }
  *sum = ReduceSum(total);
}

// out[c] = factor * sum_j p[j] * values[j][c] for kChunks chunks of 16 columns, the last of which
// may be partial.
template <typename T, int kChunks>
DW_INLINE void WeightedSum(const float* p, const T* values, int64_t row, int64_t count,
                           int64_t last_lanes, F32 factor, float* out) {
  F32 sums[kChunks];
#pragma GCC unroll 4
  for (int c = 0; c < kChunks; ++c) sums[c] = Zero();
  for (int64_t j = 0; j < count; ++j) {
    const F32 weight = Broadcast(p[j]);
#pragma GCC unroll 4
    for (int c = 0; c < kChunks; ++c) {
      const int64_t lanes = c + 1 < kChunks ? kLanes : last_lanes;
      sums[c] = Fma(weight, LoadChunk(values + j * row + c * kLanes, lanes), sums[c]);
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < kChunks; ++c) Store(out + c * kLanes, sums[c] * factor);
}

template <typename T>
void Single(const float* q, int64_t rows, int64_t head_dim, int64_t width, const void* compute_keys,
            const void* compute_values, int64_t row, int64_t count, float* scores, float* out,
            float* lse) {
  const int64_t columns = RoundUpToLanes(count);
  for (int64_t j = 0; j < count; ++j) {
    const T* const key = static_cast<const T*>(compute_keys) + j * row;
    for (int64_t i = 0; i < rows; ++i) {
      F32 sum = Zero();
      ForChunks(head_dim, [&](int64_t d, int64_t lanes) {
        sum = Fma(Load(q + i * width + d), LoadChunk(key + d, lanes), sum);
      });
      scores[i * columns + j] = ReduceSum(sum);
    }
  }
  const T* const values = static_cast<const T*>(compute_values);
  for (int64_t i = 0; i < rows; ++i) {
    float* const p = scores + i * columns;
    float max, sum;
    RowSoftmax(p, count, columns, &max, &sum);
    lse[i] = max + __builtin_logf(sum);
    const F32 factor = Broadcast(1.0f / sum);
    int64_t d = 0;
    for (; d + 4 * kLanes <= head_dim; d += 4 * kLanes) {
      WeightedSum<T, 4>(p, values + d, row, count, kLanes, factor, out + i * width + d);
    }
    for (; d < head_dim; d += kLanes) {
      WeightedSum<T, 1>(p, values + d, row, count, Smaller(kLanes, head_dim - d), factor,
                        out + i * width + d);
    }
  }
}

template <typename T>
void PackRows(const void* x, int64_t x_row, int64_t rows, int64_t columns, float scale, float* out,
              int64_t out_row) {
  const F32 factor = Broadcast(scale);
  for (int64_t i = 0; i < rows; ++i) {
    const T* const from = static_cast<const T*>(x) + i * x_row;
    float* const to = out + i * out_row;
    // Lanes behind the end are loaded as zeros.
    ForChunks(columns, [&](int64_t j, int64_t lanes) {
      Store(to + j, factor * LoadChunk(from + j, lanes));
    });
    for (int64_t j = RoundUpToLanes(columns); j < out_row; j += kLanes) Store(to + j, Zero());
  }
}

template <typename T>
void PackElements(const void* x, int64_t x_row, int64_t rows, int64_t columns, void* out,
                  int64_t out_row) {
  using E = typename LayoutOf<T>::Type::Element;
  for (int64_t i = 0; i < rows; ++i) {
    const T* const from = static_cast<const T*>(x) + i * x_row;
    E* const to = static_cast<E*>(out) + i * out_row;
    ForChunks(columns,
              [&](int64_t j, int64_t lanes) { Store(to + j, LoadChunk(from + j, lanes)); });
    for (int64_t j = RoundUpToLanes(columns); j < out_row; j += kLanes) Store(to + j, Zero());
  }
}

template <typename T>
void AddAttentionOf(KernelSet& set) {
  set.pack_rows = PackRows<T>;
  set.panel_element_bytes = sizeof(typename LayoutOf<T>::Type::Element);
  set.pack_panel_elements = PackElements<T>;
  set.attention_single = Single<T>;
  set.attention_forward = Forward<typename LayoutOf<T>::Type>;
  set.attention_backward = Backward<typename LayoutOf<T>::Type>;
}

}  // namespace

void AddAttention(bool bf16, KernelSet& set) {
  bf16 ? AddAttentionOf<Bf16>(set) : AddAttentionOf<float>(set);
}

}  // namespace deltaworks::trainer::DW_ISA

// Attention of one block of queries over blocks of keys, with the softmax built up as the blocks
// come (Milakov & Gimelshein 2018; Dao et al. 2022, FlashAttention). Compiled once for each
// instruction set.
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
int64_t RoundUpToLanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// The part of a block of queries that sees keys of the block of keys beginning at `begin`: with
// causality, the first queries may see none of them and the last keys may be seen by none.
struct SeenPart {
  int64_t first_row;
  int64_t keys;  // At least 1.

  SeenPart(const QueryBlock& block, int64_t key_count, int64_t begin)
      : first_row(block.causal ? Larger(0, begin + 1 - block.visible) : 0),
        keys(Smaller(kKeyBlock,
                     (block.causal ? block.visible + block.rows - 1 : key_count) - begin)) {}
};

// Keys of the block that row i sees, 1 to kKeyBlock.
int64_t VisibleKeys(const QueryBlock& block, int64_t key_count, int64_t i, int64_t begin) {
  return Smaller(kKeyBlock, (block.causal ? block.visible + i : key_count) - begin);
}

// x where lane number + offset < visible, else other.
DW_INLINE F32 Visible(F32 x, int64_t offset, int64_t visible, F32 other) {
  const F32 bound = Broadcast(static_cast<float>(visible - offset));
  return Select(Iota() < bound, x, other);
}

// One row of scores, `columns` of them, becomes exp(score - max); *max and *sum take the block in.
// Returns the factor for what was summed with the old maximum.
DW_INLINE float OnlineSoftmax(float* scores, int64_t columns, int64_t visible, float* max,
                              float* sum) {
  F32 largest = Broadcast(*max);
  for (int64_t j = 0; j < columns; j += kLanes) {
    largest = Max(largest, Visible(Load(scores + j), j, visible, Broadcast(kLowest)));
  }
  const float new_max = ReduceMax(largest);
  const F32 shift = Broadcast(new_max);
  F32 total = Zero();
  for (int64_t j = 0; j < columns; j += kLanes) {
    const F32 p = Visible(Exp(Load(scores + j) - shift), j, visible, Zero());
    Store(scores + j, p);
    total = total + p;
  }
  float correction = 1;  // exp(0), which is exact.
  if (new_max != *max) {
    float lanes[kLanes];
    Store(lanes, Exp(Broadcast(*max - new_max)));
    correction = lanes[0];
  }
  *max = new_max;
  *sum = *sum * correction + ReduceSum(total);
  return correction;
}

void Forward(const QueryBlock& block, const float* q, const PackedHead& head, int64_t width,
             float* scratch, float* out, float* lse) {
  float max[kQueryBlock];
  float sum[kQueryBlock];
  for (int64_t i = 0; i < block.rows; ++i) {
    max[i] = kLowest;
    sum[i] = 0;
    for (int64_t j = 0; j < width; j += kLanes) Store(out + i * width + j, Zero());
  }
  const int64_t seen = block.causal ? block.visible + block.rows - 1 : head.key_count;
  for (int64_t begin = 0; begin < seen; begin += kKeyBlock) {
    const SeenPart part(block, head.key_count, begin);
    const int64_t columns = RoundUpToLanes(part.keys);
    const int64_t rows = block.rows - part.first_row;
    float* const first_out = out + part.first_row * width;
    Multiply({.m = rows,
              .n = columns,
              .k = width,
              .a = q + part.first_row * width,
              .a_row = width,
              .a_column = 1,
              .b = head.keys_transposed + begin * width,
              .b_row = kKeyBlock,
              .c = scratch,
              .c_row = kKeyBlock,
              .accumulate = false});
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row_number = part.first_row + i;
      const int64_t visible = VisibleKeys(block, head.key_count, row_number, begin);
      const float correction = OnlineSoftmax(scratch + i * kKeyBlock, columns, visible,
                                             &max[row_number], &sum[row_number]);
      if (correction == 1) continue;
      float* const row = first_out + i * width;
      for (int64_t j = 0; j < width; j += kLanes) {
        Store(row + j, Load(row + j) * Broadcast(correction));
      }
    }
    Multiply({.m = rows,
              .n = width,
              .k = part.keys,
              .a = scratch,
              .a_row = kKeyBlock,
              .a_column = 1,
              .b = head.values + begin * width,
              .b_row = width,
              .c = first_out,
              .c_row = width,
              .accumulate = true});
  }
  for (int64_t i = 0; i < block.rows; ++i) {
    const F32 factor = Broadcast(1.0f / sum[i]);
    float* const row = out + i * width;
    for (int64_t j = 0; j < width; j += kLanes) Store(row + j, Load(row + j) * factor);
    lse[i] = max[i] + __builtin_logf(sum[i]);
  }
}

void Backward(const QueryBlock& block, const float* q, const float* dout, const float* lse,
              const float* delta, const PackedHead& head, int64_t key_block, int64_t width,
              float* scratch, float* dq, float* dkeys, float* dvalues) {
  const int64_t begin = key_block * kKeyBlock;
  const SeenPart part(block, head.key_count, begin);
  const int64_t columns = RoundUpToLanes(part.keys);
  const int64_t rows = block.rows - part.first_row;
  const int64_t offset = part.first_row * width;
  float* const p = scratch;
  float* const ds = scratch + kQueryBlock * kKeyBlock;
  BlockProduct product = {.m = rows,
                          .n = columns,
                          .k = width,
                          .a = q + offset,
                          .a_row = width,
                          .a_column = 1,
                          .b = head.keys_transposed + begin * width,
                          .b_row = kKeyBlock,
                          .c = p,
                          .c_row = kKeyBlock,
                          .accumulate = false};
  Multiply(product);
  product.a = dout + offset;
  product.b = head.values_transposed + begin * width;
  product.c = ds;
  Multiply(product);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row_number = part.first_row + i;
    const int64_t visible = VisibleKeys(block, head.key_count, row_number, begin);
    for (int64_t j = 0; j < columns; j += kLanes) {
      float* const p_row = p + i * kKeyBlock + j;
      float* const ds_row = ds + i * kKeyBlock + j;
      const F32 probability =
          Visible(Exp(Load(p_row) - Broadcast(lse[row_number])), j, visible, Zero());
      const F32 gradient = probability * (Load(ds_row) - Broadcast(delta[row_number]));
      Store(p_row, probability);
      Store(ds_row, Visible(gradient, j, visible, Zero()));
    }
  }
  Multiply({.m = rows,
            .n = width,
            .k = part.keys,
            .a = ds,
            .a_row = kKeyBlock,
            .a_column = 1,
            .b = head.keys + begin * width,
            .b_row = width,
            .c = dq + offset,
            .c_row = width,
            .accumulate = true});
  product = {.m = part.keys,
             .n = width,
             .k = rows,
             .a = ds,
             .a_row = 1,
             .a_column = kKeyBlock,
             .b = q + offset,
             .b_row = width,
             .c = dkeys,
             .c_row = width,
             .accumulate = true};
  Multiply(product);
  product.a = p;
  product.b = dout + offset;
  product.c = dvalues;
  Multiply(product);
}

// Rows of keys or values, `row` elements apart, in pages of kKeyBlock if there are any.
template <typename T>
struct KeyRows {
  const T* first;
  int64_t row;
  const int32_t* pages;

  // use(key, row) for each of the first `count`, in order.
  template <typename Use>
  DW_INLINE void ForEach(int64_t count, const Use& use) const {
    for (int64_t begin = 0; begin < count; begin += kKeyBlock) {
      const int64_t place = pages == nullptr ? begin : pages[begin / kKeyBlock] * kKeyBlock;
      const T* const page = first + place * row;
      const int64_t end = Smaller(kKeyBlock, count - begin);
      for (int64_t j = 0; j < end; ++j) use(begin + j, page + j * row);
    }
  }
};

// out[c] = factor * sum_j p[j] * values[j][c] for kChunks chunks of 16 columns, the last of which
// may be partial.
template <typename T, int kChunks>
DW_INLINE void WeightedSum(const float* p, const KeyRows<T>& values, int64_t column, int64_t count,
                           int64_t last_lanes, F32 factor, float* out) {
  F32 sums[kChunks];
#pragma GCC unroll 4
  for (int c = 0; c < kChunks; ++c) sums[c] = Zero();
  values.ForEach(count, [&](int64_t j, const T* value) {
    const F32 weight = Broadcast(p[j]);
#pragma GCC unroll 4
    for (int c = 0; c < kChunks; ++c) {
      const int64_t lanes = c + 1 < kChunks ? kLanes : last_lanes;
      sums[c] = Fma(weight, LoadChunk(value + column + c * kLanes, lanes), sums[c]);
    }
  });
#pragma GCC unroll 4
  for (int c = 0; c < kChunks; ++c) Store(out + c * kLanes, sums[c] * factor);
}

template <typename T>
void Single(const float* q, int64_t rows, int64_t head_dim, int64_t width, const void* compute_keys,
            const void* compute_values, int64_t row, const int32_t* pages, int64_t count,
            float* scores, float* out, float* lse) {
  const int64_t columns = RoundUpToLanes(count);
  const KeyRows<T> keys = {static_cast<const T*>(compute_keys), row, pages};
  keys.ForEach(count, [&](int64_t j, const T* key) {
    for (int64_t i = 0; i < rows; ++i) {
      F32 sum = Zero();
      ForChunks(head_dim, [&](int64_t d, int64_t lanes) {
        sum = Fma(Load(q + i * width + d), LoadChunk(key + d, lanes), sum);
      });
      scores[i * columns + j] = ReduceSum(sum);
    }
  });
  const KeyRows<T> values = {static_cast<const T*>(compute_values), row, pages};
  for (int64_t i = 0; i < rows; ++i) {
    float* const p = scores + i * columns;
    float max = kLowest;
    float sum = 0;
    OnlineSoftmax(p, columns, count, &max, &sum);
    lse[i] = max + __builtin_logf(sum);
    const F32 factor = Broadcast(1.0f / sum);
    int64_t d = 0;
    for (; d + 4 * kLanes <= head_dim; d += 4 * kLanes) {
      WeightedSum<T, 4>(p, values, d, count, kLanes, factor, out + i * width + d);
    }
    for (; d < head_dim; d += kLanes) {
      WeightedSum<T, 1>(p, values, d, count, Smaller(kLanes, head_dim - d), factor,
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
void PackTransposed(const void* x, int64_t x_row, int64_t rows, int64_t columns, float* out,
                    int64_t out_row, int64_t padded_columns) {
  for (int64_t j = 0; j < padded_columns; ++j) {
    for (int64_t i = 0; i < out_row; i += kLanes) Store(out + j * out_row + i, Zero());
  }
  for (int64_t i = 0; i < rows; ++i) {
    const T* const from = static_cast<const T*>(x) + i * x_row;
    ForChunks(columns, [&](int64_t j, int64_t lanes) {
      float wide[kLanes];
      Store(wide, LoadChunk(from + j, lanes));
      for (int64_t lane = 0; lane < lanes; ++lane) out[(j + lane) * out_row + i] = wide[lane];
    });
  }
}

}  // namespace

void AddAttention(bool bf16, KernelSet& set) {
  set.pack_rows = bf16 ? PackRows<Bf16> : PackRows<float>;
  set.pack_transposed = bf16 ? PackTransposed<Bf16> : PackTransposed<float>;
  set.attention_single = bf16 ? Single<Bf16> : Single<float>;
  set.attention_forward = Forward;
  set.attention_backward = Backward;
}

}  // namespace deltaworks::trainer::DW_ISA

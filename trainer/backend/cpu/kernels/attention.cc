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

// Keys of a block, beginning at key `begin`, that row i of the queries sees.
int64_t VisibleKeys(const QueryBlock& block, int64_t key_count, int64_t i, int64_t begin) {
  const int64_t visible = block.causal ? block.visible + i : key_count;
  const int64_t in_block = Smaller(visible - begin, kKeyBlock);
  return in_block < 0 ? 0 : in_block;
}

// x where lane number + offset < visible, else other.
DW_INLINE F32 Visible(F32 x, int64_t offset, int64_t visible, F32 other) {
  const F32 bound = Broadcast(static_cast<float>(visible - offset));
  return Select(Iota() < bound, x, other);
}

// One row of scores becomes exp(score - max); *max and *sum take the block in. Returns the factor
// for what was summed with the old maximum.
DW_INLINE float OnlineSoftmax(float* scores, int64_t visible, float* max, float* sum) {
  F32 largest = Broadcast(*max);
  for (int64_t j = 0; j < kKeyBlock; j += kLanes) {
    largest = Max(largest, Visible(Load(scores + j), j, visible, Broadcast(kLowest)));
  }
  const float new_max = ReduceMax(largest);
  const F32 shift = Broadcast(new_max);
  F32 total = Zero();
  for (int64_t j = 0; j < kKeyBlock; j += kLanes) {
    const F32 p = Visible(Exp(Load(scores + j) - shift), j, visible, Zero());
    Store(scores + j, p);
    total = total + p;
  }
  float correction[kLanes];
  Store(correction, Exp(Broadcast(*max - new_max)));
  *max = new_max;
  *sum = *sum * correction[0] + ReduceSum(total);
  return correction[0];
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
    Multiply({.m = block.rows,
              .n = kKeyBlock,
              .k = width,
              .a = q,
              .a_row = width,
              .a_column = 1,
              .b = head.keys_transposed + begin * width,
              .b_row = kKeyBlock,
              .c = scratch,
              .c_row = kKeyBlock,
              .accumulate = false});
    for (int64_t i = 0; i < block.rows; ++i) {
      const int64_t visible = VisibleKeys(block, head.key_count, i, begin);
      const F32 correction =
          Broadcast(OnlineSoftmax(scratch + i * kKeyBlock, visible, &max[i], &sum[i]));
      float* const row = out + i * width;
      for (int64_t j = 0; j < width; j += kLanes) Store(row + j, Load(row + j) * correction);
    }
    Multiply({.m = block.rows,
              .n = width,
              .k = Smaller(seen - begin, kKeyBlock),
              .a = scratch,
              .a_row = kKeyBlock,
              .a_column = 1,
              .b = head.values + begin * width,
              .b_row = width,
              .c = out,
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
  float* const p = scratch;
  float* const ds = scratch + kQueryBlock * kKeyBlock;
  BlockProduct product = {.m = block.rows,
                          .n = kKeyBlock,
                          .k = width,
                          .a = q,
                          .a_row = width,
                          .a_column = 1,
                          .b = head.keys_transposed + begin * width,
                          .b_row = kKeyBlock,
                          .c = p,
                          .c_row = kKeyBlock,
                          .accumulate = false};
  Multiply(product);
  product.a = dout;
  product.b = head.values_transposed + begin * width;
  product.c = ds;
  Multiply(product);
  for (int64_t i = 0; i < block.rows; ++i) {
    const int64_t visible = VisibleKeys(block, head.key_count, i, begin);
    for (int64_t j = 0; j < kKeyBlock; j += kLanes) {
      float* const p_row = p + i * kKeyBlock + j;
      float* const ds_row = ds + i * kKeyBlock + j;
      const F32 probability = Visible(Exp(Load(p_row) - Broadcast(lse[i])), j, visible, Zero());
      const F32 gradient = probability * (Load(ds_row) - Broadcast(delta[i]));
      Store(p_row, probability);
      Store(ds_row, Visible(gradient, j, visible, Zero()));
    }
  }
  const int64_t keys = Smaller(head.key_count - begin, kKeyBlock);
  Multiply({.m = block.rows,
            .n = width,
            .k = keys,
            .a = ds,
            .a_row = kKeyBlock,
            .a_column = 1,
            .b = head.keys + begin * width,
            .b_row = width,
            .c = dq,
            .c_row = width,
            .accumulate = true});
  product = {.m = keys,
             .n = width,
             .k = block.rows,
             .a = ds,
             .a_row = 1,
             .a_column = kKeyBlock,
             .b = q,
             .b_row = width,
             .c = dkeys,
             .c_row = width,
             .accumulate = true};
  Multiply(product);
  product.a = p;
  product.b = dout;
  product.c = dvalues;
  Multiply(product);
}

template <typename T>
void PackRows(const void* x, int64_t x_row, int64_t rows, int64_t columns, float scale, float* out,
              int64_t out_row) {
  const F32 factor = Broadcast(scale);
  for (int64_t i = 0; i < rows; ++i) {
    const T* const from = static_cast<const T*>(x) + i * x_row;
    float* const to = out + i * out_row;
    for (int64_t j = 0; j < out_row; j += kLanes) Store(to + j, Zero());
    ForChunks(columns, [&](int64_t j, int64_t lanes) {
      StoreChunk(to + j, factor * LoadChunk(from + j, lanes), lanes);
    });
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
  set.attention_forward = Forward;
  set.attention_backward = Backward;
}

}  // namespace deltaworks::trainer::DW_ISA

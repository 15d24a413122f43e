// KernelSet: the inner loops of the cpu backend, one set for each instruction set and compute type.
//
// The sources beside this file are compiled once for each instruction set (BUILD) and the set is
// chosen once, when the backend is made. A kernel works on one row, block or tile, on the calling
// thread. All of them compute in f32 and give an element the same bits wherever it stands: tails
// run the instructions of the body on a padded copy.
//
// "compute" below is the set's compute type: float, or BFloat16 as its bits.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_KERNELS_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_KERNELS_H_

#include <cstdint>

#include "trainer/backend/adamw_scalars.h"

namespace deltaworks::trainer {

// The dropout mask of one segment (DropoutKey, philox.h) as the kernels want it.
struct DropoutMask {
  uint64_t seed = 0;
  uint32_t step = 0;
  uint32_t site = 0;
  uint32_t threshold = 0;
  float kept_scale = 1;  // 1 / (1 - p).
};

// Products of rows with a panel: `depth` x `columns` of a matrix, copied by pack_panel_rows or
// pack_panel_transposed to a layout of the set's own.
inline constexpr int64_t kPanelColumns = 64;
inline constexpr int64_t kPanelTermsMax = 8;
inline constexpr int64_t PanelBytes(int64_t depth) { return (depth + 1) * kPanelColumns * 4; }
inline constexpr int64_t PackedLeftBytes(int64_t depth) { return PanelBytes(depth + 31); }

// One a [rows,depth] times one panel. Rows of a are a_row elements apart and in the compute type;
// or, if a_packed, a is what pack_left gave.
struct PanelTerm {
  const void* a;
  int64_t a_row;
  bool a_packed;
  const void* panel;
  int64_t depth;
};

// out = initial + sum of the terms, in their order: f32 to `sums` or rounded to `rounded`, one of
// the two. Without `initial` the sum begins at zero; it may be `sums`.
struct PanelProduct {
  const PanelTerm* terms;
  int64_t term_count;
  int64_t rows;
  int64_t columns;  // At most kPanelColumns.
  const float* initial;
  int64_t initial_row;
  float* sums;
  void* rounded;
  int64_t out_row;
};
// Bytes of scratch for terms of `depth` in all: of the set that wants most, two rows of tiles of a,
// and what fills up the terms' last steps.
inline constexpr int64_t PanelProductScratch(int64_t depth) {
  return 64 * (depth + 32 * kPanelTermsMax) + kPanelTermsMax * 4096 + 8192;
}

// Keys and values of one span and kv head, widened, in blocks of kKeyBlock keys. `width` is the
// head size rounded up to 16; what is behind a row's end is zero.
struct PackedHead {
  const float* keys = nullptr;               // [blocks, kKeyBlock, width]; backward only.
  const float* keys_transposed = nullptr;    // [blocks, width, kKeyBlock].
  const float* values = nullptr;             // [blocks, kKeyBlock, width]; forward only.
  const float* values_transposed = nullptr;  // [blocks, width, kKeyBlock]; backward only.
  int64_t key_count = 0;
};

// One block of queries of one head.
struct QueryBlock {
  int64_t rows = 0;     // At most kQueryBlock.
  int64_t visible = 0;  // Keys that the first row sees, all of them unless causal.
  bool causal = true;   // Row i sees `visible` + i keys.
};

inline constexpr int64_t kKeyBlock = 64;
inline constexpr int64_t kQueryBlock = 48;

struct KernelSet {
  const char* isa;

  // Vectors of n elements.
  void (*widen)(const void* compute_x, float* y, int64_t n);
  void (*round)(const float* x, void* compute_y, int64_t n);
  // out = x + y; out may be x.
  void (*add_wide)(const float* x, const void* compute_y, float* out, int64_t n);
  // y += x.
  void (*accumulate)(const float* x, float* y, int64_t n);
  // out = round(scale * x).
  void (*scale_round)(const float* x, float scale, void* compute_out, int64_t n);
  // out = round(c + add).
  void (*add_round)(const float* c, const float* add, void* compute_out, int64_t n);
  // out = round(c + mask * add) and out = round(mask * x) for features [feature, feature + n) of a
  // token; `feature` is a multiple of 4.
  void (*add_masked_round)(const float* c, const float* add, const DropoutMask& mask,
                           uint32_t token, int64_t feature, void* compute_out, int64_t n);
  void (*drop)(const void* compute_x, const DropoutMask& mask, uint32_t token, int64_t feature,
               void* compute_out, int64_t n);
  void (*swiglu_forward)(const void* gate, const void* up, void* out, int64_t n);
  void (*swiglu_backward)(const void* gate, const void* up, const void* dout, void* dgate,
                          void* dup, int64_t n);
  double (*sum_of_squares)(const float* x, int64_t n);
  void (*adamw)(const AdamWScalars& scalars, const float* gradient, float* parameter, float* m,
                float* v, int64_t n);

  // One row. Returns rstd.
  float (*rms_norm_forward)(const float* x, const float* weight, double epsilon, void* compute_y,
                            int64_t n);
  void (*rms_norm_backward)(const float* x, const float* weight, float rstd, const void* compute_dy,
                            float* dx, int64_t n);
  // One row of `heads` heads; `sine_sign` is 1, or -1 for the inverse.
  void (*rope)(void* compute_x, int64_t heads, int64_t head_dim, const float* cosines,
               const float* sines, float sine_sign);

  // out[t * out_row + j] = sum_p x[t * x_row + p] * w[j * w_row + p], p < k. Weights are read once
  // for all rows.
  void (*dot)(const void* compute_x, int64_t x_row, int64_t rows, const void* compute_w,
              int64_t w_row, int64_t w_rows, int64_t k, float* out, int64_t out_row);

  // panel of b, element (p,j) of which is b[p * row + j], or b[j * row + p] if transposed.
  // `panel`: PanelBytes(depth) bytes, aligned to 64.
  void (*pack_panel_rows)(const void* compute_b, int64_t row, int64_t depth, int64_t columns,
                          void* panel);
  void (*pack_panel_transposed)(const void* compute_b, int64_t row, int64_t depth, int64_t columns,
                                void* panel);
  // The transpose of a [depth, columns], rows a_row elements apart, as a left side of `columns`
  // rows, at most kPanelColumns. `packed`: PackedLeftBytes(depth) bytes, aligned to 64.
  void (*pack_left)(const void* compute_a, int64_t a_row, int64_t depth, int64_t columns,
                    void* packed);
  // scratch: PanelProductScratch() bytes, aligned to 64.
  void (*panel_product)(const PanelProduct& product, void* scratch);
  int64_t block_rows;  // That panel_product works on at a time, at most.

  // Softmax over a row in panels. *max becomes the largest x, out round(exp(x - *max)), and *sum
  // the sum of that before rounding.
  void (*panel_exponentials)(const float* x, int64_t n, void* compute_out, float* max, float* sum);
  // out = round(factor * x - [index == label] * weight); no index equals -1.
  void (*softmax_gradient)(const void* compute_x, float factor, float weight, int64_t label,
                           void* compute_out, int64_t n);

  // out[i * out_row + j] = scale * x[i * x_row + j] for j < columns, zero up to out_row.
  void (*pack_rows)(const void* compute_x, int64_t x_row, int64_t rows, int64_t columns,
                    float scale, float* out, int64_t out_row);
  // out[j * out_row + i] = x[i * x_row + j]; zero up to out_row and, for j >= columns, up to
  // `padded_columns`.
  void (*pack_transposed)(const void* compute_x, int64_t x_row, int64_t rows, int64_t columns,
                          float* out, int64_t out_row, int64_t padded_columns);
  // q [rows, width], scaled. out [rows, width] f32, lse [rows].
  // scratch: kQueryBlock * kKeyBlock floats.
  void (*attention_forward)(const QueryBlock& block, const float* q, const PackedHead& head,
                            int64_t width, float* scratch, float* out, float* lse);
  // One query that sees all keys, for `rows` heads q [rows, width], scaled, of one kv head. Keys
  // and values [count, head_dim] are read in place, once; rows are `row` elements apart, in pages
  // as an AttentionSpan's if there are any. scores: scratch of rows * count floats, count rounded
  // up to 16. out [rows, width], lse [rows].
  void (*attention_single)(const float* q, int64_t rows, int64_t head_dim, int64_t width,
                           const void* compute_keys, const void* compute_values, int64_t row,
                           const int32_t* pages, int64_t count, float* scores, float* out,
                           float* lse);
  // The part of one block of keys: dq, dkeys and dvalues are accumulated. q is scaled, so dkeys is
  // complete and dq lacks the scale. delta[i] = dout_i . out_i.
  // scratch: 2 * kQueryBlock * kKeyBlock floats.
  void (*attention_backward)(const QueryBlock& block, const float* q, const float* dout,
                             const float* lse, const float* delta, const PackedHead& head,
                             int64_t key_block, int64_t width, float* scratch, float* dq,
                             float* dkeys, float* dvalues);
  // sum_j a_j * b_j.
  float (*inner_product)(const float* a, const float* b, int64_t n);
  // exp of each element, for tests of its error bound.
  void (*exp)(const float* x, float* y, int64_t n);
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_KERNELS_H_

// What adapters add to products of frozen weights, as further columns and rows of those products
// (../README.md has the algebra):
//
//   y_i = [x | s_i] [W_i | B_i]^T      s_i: the rows' own hidden values, 0 in other adapters'
//   columns dx  = sum_i [dy_i | ds_i] [W_i ; A_i]
//
// A slice is one adapter of one linear. It has `rank` columns in three places:
//   hidden_column   in `hidden`, the operation's own: its segment's slices side by side;
//   group_column    where all slices of a group of linears lie side by side, each filled up with
//                   zeros to a multiple of 16;
//   linear_column   the same among the slices of one linear.
//
// Zero times what is not finite would reach other rows, so B and A are made finite where they
// become columns and rows of W, and the slice is flagged: its own rows then get NaN, and nobody
// else's.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_ADAPTERS_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_ADAPTERS_H_

#include <cstdint>

#include "trainer/backend/cuda/kernels/types.h"

namespace deltaworks::trainer::cuda {

struct Slice {
  const void* a;  // [rank, K]
  const void* b;  // [N, rank]
  float scale;
  int32_t rank;
  int32_t hidden_column;
  int32_t group_column;
  int32_t linear_column;
  int32_t linear;
};

// Rows [row_begin, row_end) and their slices, and their dropout (backend.h's DropoutKey).
struct SegmentRows {
  int32_t row_begin;
  int32_t row_end;
  int32_t slice_begin;
  int32_t slice_end;
  uint32_t threshold;  // Kept iff the word is at least this; 0: no dropout.
  float keep_scale;    // 1 / (1 - p).
  uint32_t seed_low;
  uint32_t seed_high;
  uint32_t step;
  uint32_t site;
  uint32_t token;  // Of row_begin.
  uint32_t unused;
};

// Slice and row of A (or column of B) at a column; slice -1: filled up with zeros.
struct Column {
  int32_t slice;
  int32_t rank_index;
};

// Some segments of a batch, ascending, and everything about their adapters; all on the device.
struct AdapterTable {
  const SegmentRows* segments = nullptr;
  const Slice* slices = nullptr;
  const Column* group_columns = nullptr;  // [group_width].
  int32_t* flags = nullptr;               // One a slice, 0 at first: 1 if its A or B is not finite.
  int32_t segment_count = 0;
  int32_t slice_count = 0;
  int32_t group_width = 0;
  int32_t unused = 0;
};

// Rows [row_begin, row_begin + rows) of the batch; matrices begin at row_begin.
struct RowRange {
  int64_t begin = 0;
  int64_t rows = 0;
};

// to = x, with each row's dropout, if `drop`; columns from `columns` to columns_filled are 0.
template <typename T>
void CopyInput(Stream stream, const AdapterTable& table, RowRange range, const T* x, int64_t x_row,
               int64_t columns, int64_t columns_filled, bool drop, T* to, int64_t to_row);

enum class Rows { kAll, kWithoutDropout, kWithDropout };

// hidden[row, hidden_column + r] = round(scale * sums[row, c + r]) of each row's own slices, all
// (linear < 0; c is the group_column) or those of one linear (c is the linear_column). With `to`,
// PlaceHidden of the same.
template <typename T>
void SelectHidden(Stream stream, const AdapterTable& table, RowRange range, int linear,
                  const float* sums, int64_t sums_row, T* hidden, int64_t hidden_row, Rows rows,
                  int64_t width, T* to, int64_t to_row);

// The inverse: to[row, c + r] = hidden[row, hidden_column + r] of the row's own slices, 0 in all
// other columns of [0, width); NaN if the slice is flagged. Rows that `rows` leaves out are 0.
template <typename T>
void PlaceHidden(Stream stream, const AdapterTable& table, RowRange range, int linear, Rows rows,
                 const T* hidden, int64_t hidden_row, int64_t width, T* to, int64_t to_row);

// to[n, c] = B[n, r] for each column c of `columns` [width], finite, 0 from row n on; flags.
template <typename T>
void PlaceB(Stream stream, const AdapterTable& table, const Column* columns, int64_t width,
            int64_t n, int64_t n_filled, T* to, int64_t to_row);
// to[c, k] = A[r, k] for each column c of `columns` [width], finite, 0 from k on; flags.
template <typename T>
void PlaceA(Stream stream, const AdapterTable& table, const Column* columns, int64_t width,
            int64_t k, int64_t k_filled, T* to, int64_t to_row);

// For few rows, without columns: hidden[row, hidden_column + r] = round(scale * drop(x[row]) .
// A[r]) of each row's own slices. No row has more than `hidden_width` columns.
template <typename T>
void DecodeHidden(Stream stream, const AdapterTable& table, RowRange range, const T* x,
                  int64_t x_row, int64_t k, int64_t hidden_width, T* hidden, int64_t hidden_row);
// y[row] = round(base[row] + hidden B^T of the row's own slice of `linear`), y [rows, n].
template <typename T>
void DecodeOutput(Stream stream, const AdapterTable& table, RowRange range, int linear,
                  const float* base, int64_t base_row, const T* hidden, int64_t hidden_row,
                  int64_t n, T* y, int64_t y_row);

// dx = round(base + dropout(adapters)) on rows with dropout, round(base) on others.
template <typename T>
void FinishInputGradient(Stream stream, const AdapterTable& table, RowRange range,
                         const float* base, int64_t base_row, const float* adapters,
                         int64_t adapters_row, int64_t columns, T* dx, int64_t dx_row);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_ADAPTERS_H_

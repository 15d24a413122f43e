// Small f32 products of blocks that are in the first two cache levels: attention's.
//
//   c[i][j] = or += sum_p a[i * a_row + p * a_column] * b[p * b_row + j],   i < m, j < n, p < k
//
// n is a multiple of 16 and rows are padded accordingly; k is at least 1. Each element is one chain
// of multiply-adds in the order of p, so its bits do not depend on the block that it is computed
// in.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_BLOCK_PRODUCT_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_BLOCK_PRODUCT_H_

#include "trainer/backend/cpu/kernels/simd.h"

namespace deltaworks::trainer::DW_ISA {

struct BlockProduct {
  int64_t m, n, k;
  const float* a;
  int64_t a_row, a_column;
  const float* b;
  int64_t b_row;
  float* c;
  int64_t c_row;
  bool accumulate;
};

// Rows and vectors of the accumulators that registers hold: 24 of 32, 12 of 16, 8 of 16.
#if defined(__AVX512F__)
inline constexpr int kBlockRows = 6;
inline constexpr int kBlockVectors = 4;
#elif defined(__AVX2__)
inline constexpr int kBlockRows = 6;
inline constexpr int kBlockVectors = 1;
#else
inline constexpr int kBlockRows = 2;
inline constexpr int kBlockVectors = 1;
#endif

template <int kRows, int kVectors, bool kAccumulate>
__attribute__((noinline)) void MultiplyBlock(const BlockProduct& q, int64_t row, int64_t column) {
  const float* const a = q.a + row * q.a_row;
  const float* const b = q.b + column;
  float* const c = q.c + row * q.c_row + column;
  F32 sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      sums[i][j] = kAccumulate ? Load(c + i * q.c_row + j * kLanes) : Zero();
    }
  }
  int64_t p = 0;
  do {
    F32 vectors[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) vectors[j] = Load(b + p * q.b_row + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const F32 factor = Broadcast(a[i * q.a_row + p * q.a_column]);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sums[i][j] = Fma(factor, vectors[j], sums[i][j]);
    }
  } while (++p < q.k);
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) Store(c + i * q.c_row + j * kLanes, sums[i][j]);
  }
}

// The last rows, fewer than kBlockRows.
template <int kRows, int kVectors, bool kAccumulate>
DW_INLINE void MultiplyLastRows(const BlockProduct& q, int64_t row, int64_t column) {
  if constexpr (kRows > 0) {
    if (q.m - row == kRows) {
      MultiplyBlock<kRows, kVectors, kAccumulate>(q, row, column);
    } else {
      MultiplyLastRows<kRows - 1, kVectors, kAccumulate>(q, row, column);
    }
  }
}

template <int kVectors, bool kAccumulate>
DW_INLINE void MultiplyColumns(const BlockProduct& q, int64_t column) {
  int64_t row = 0;
  for (; row + kBlockRows <= q.m; row += kBlockRows) {
    MultiplyBlock<kBlockRows, kVectors, kAccumulate>(q, row, column);
  }
  MultiplyLastRows<kBlockRows - 1, kVectors, kAccumulate>(q, row, column);
}

// The last columns, fewer than kBlockVectors vectors.
template <int kVectors, bool kAccumulate>
DW_INLINE void MultiplyLastColumns(const BlockProduct& q, int64_t column) {
  if constexpr (kVectors > 0) {
    if (q.n - column == kVectors * kLanes) {
      MultiplyColumns<kVectors, kAccumulate>(q, column);
    } else {
      MultiplyLastColumns<kVectors - 1, kAccumulate>(q, column);
    }
  }
}

template <bool kAccumulate>
void MultiplyAll(const BlockProduct& q) {
  int64_t column = 0;
  for (; column + kBlockVectors * kLanes <= q.n; column += kBlockVectors * kLanes) {
    MultiplyColumns<kBlockVectors, kAccumulate>(q, column);
  }
  MultiplyLastColumns<kBlockVectors - 1, kAccumulate>(q, column);
}

DW_INLINE void Multiply(const BlockProduct& q) {
  if (q.accumulate) {
    MultiplyAll<true>(q);
  } else {
    MultiplyAll<false>(q);
  }
}

}  // namespace deltaworks::trainer::DW_ISA

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_BLOCK_PRODUCT_H_

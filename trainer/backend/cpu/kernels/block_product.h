// Products of blocks that are in the first two cache levels: attention's.
//
//   c[i][j] = or += sum_p a[i][p] * b[p][j],   i < m, j < n, p < kStep * steps
//
// b is a panel (layout.h). Step s of row i of a is at a + i * a_row + s * a_step, so a may be rows,
// or the transpose of a panel. n is a multiple of 16 and `steps` is at least 1. Each element is one
// chain of multiply-adds in the order of p, so its bits do not depend on the block that it is
// computed in.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_BLOCK_PRODUCT_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_BLOCK_PRODUCT_H_

#include "trainer/backend/cpu/kernels/kernels.h"
#include "trainer/backend/cpu/kernels/layout.h"

namespace deltaworks::trainer::DW_ISA {

template <typename Layout>
struct BlockProduct {
  int64_t m = 0, n = 0, steps = 0;
  const typename Layout::Element* a = nullptr;
  int64_t a_row = 0, a_step = 0;
  const typename Layout::Element* b = nullptr;
  float* c = nullptr;
  int64_t c_row = 0;
  bool accumulate = false;
};

template <typename Layout, int kRows, int kVectors, bool kAccumulate>
__attribute__((noinline)) void MultiplyBlock(const BlockProduct<Layout>& q, int64_t row,
                                             int64_t column) {
  const int64_t a_row = q.a_row, a_step = q.a_step, c_row = q.c_row;
  const typename Layout::Element* a = q.a + row * a_row;
  const typename Layout::Element* b = q.b + column * Layout::kStep;
  float* const c = q.c + row * c_row + column;
  F32 sums[kRows][kVectors];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      sums[i][j] = kAccumulate ? Load(c + i * c_row + j * kLanes) : Zero();
    }
  }
  int64_t steps = q.steps;
  do {
    decltype(Layout::Right(b)) vectors[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) vectors[j] = Layout::Right(b + j * kLanes * Layout::kStep);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      const auto factor = Layout::Left(a + i * a_row);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        sums[i][j] = Layout::MultiplyAdd(factor, vectors[j], sums[i][j]);
      }
    }
    a += a_step;
    b += kPanelColumns * Layout::kStep;
  } while (--steps > 0);
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) Store(c + i * c_row + j * kLanes, sums[i][j]);
  }
}

// The last rows, at most kRows.
template <typename Layout, int kRows, int kVectors, bool kAccumulate>
DW_INLINE void MultiplyLastRows(const BlockProduct<Layout>& q, int64_t row, int64_t column) {
  if constexpr (kRows > 0) {
    if (q.m - row == kRows) {
      MultiplyBlock<Layout, kRows, kVectors, kAccumulate>(q, row, column);
    } else {
      MultiplyLastRows<Layout, kRows - 1, kVectors, kAccumulate>(q, row, column);
    }
  }
}

// The columns of kVectors vectors from `column` on, if there are so many; else the last ones.
template <typename Layout, int kVectors, bool kAccumulate>
DW_INLINE void MultiplyColumns(const BlockProduct<Layout>& q, int64_t column) {
  if constexpr (kVectors > 0) {
    if (q.n - column < kVectors * kLanes) {
      MultiplyColumns<Layout, kVectors - 1, kAccumulate>(q, column);
      return;
    }
    constexpr int kRows = RowsFor(kVectors);
    int64_t row = 0;
    for (; row + kRows <= q.m; row += kRows) {
      MultiplyBlock<Layout, kRows, kVectors, kAccumulate>(q, row, column);
    }
    MultiplyLastRows<Layout, kRows - 1, kVectors, kAccumulate>(q, row, column);
  }
}

template <typename Layout>
void Multiply(const BlockProduct<Layout>& q) {
  for (int64_t column = 0; column < q.n; column += kVectorsMax * kLanes) {
    if (q.accumulate) {
      MultiplyColumns<Layout, kVectorsMax, true>(q, column);
    } else {
      MultiplyColumns<Layout, kVectorsMax, false>(q, column);
    }
  }
}

}  // namespace deltaworks::trainer::DW_ISA

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_BLOCK_PRODUCT_H_

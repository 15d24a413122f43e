// Products of few rows, bound by the time to read the weights: each weight is read once, for all
// rows. Compiled once for each instruction set.

#include "trainer/backend/cpu/kernels/attention.h"
#include "trainer/backend/cpu/kernels/simd.h"

namespace deltaworks::trainer::DW_ISA {
namespace {

// Each result is one chain of multiply-adds per lane over all of k, then the lanes' tree: its bits
// depend neither on kRows nor on kWeights.
template <typename T, int kRows, int kWeights>
DW_INLINE void DotBlock(const float* x, int64_t x_row, const T* w, int64_t w_row, int64_t k,
                        float* out, int64_t out_row) {
  F32 sums[kRows][kWeights];
#pragma GCC unroll 4
  for (int t = 0; t < kRows; ++t) {
#pragma GCC unroll 4
    for (int j = 0; j < kWeights; ++j) sums[t][j] = Zero();
  }
  ForChunks(k, [&](int64_t p, int64_t lanes) {
    F32 weights[kWeights];
#pragma GCC unroll 4
    for (int j = 0; j < kWeights; ++j) weights[j] = LoadChunk(w + j * w_row + p, lanes);
#pragma GCC unroll 4
    for (int t = 0; t < kRows; ++t) {
      const F32 factor = Load(x + t * x_row + p);
#pragma GCC unroll 4
      for (int j = 0; j < kWeights; ++j) sums[t][j] = Fma(factor, weights[j], sums[t][j]);
    }
  });
#pragma GCC unroll 4
  for (int t = 0; t < kRows; ++t) {
#pragma GCC unroll 4
    for (int j = 0; j < kWeights; ++j) out[t * out_row + j] = ReduceSum(sums[t][j]);
  }
}

template <typename T, int kWeights>
DW_INLINE void DotRows(const float* x, int64_t x_row, int64_t rows, const T* w, int64_t w_row,
                       int64_t k, float* out, int64_t out_row) {
  int64_t t = 0;
  for (; t + 4 <= rows; t += 4) {
    DotBlock<T, 4, kWeights>(x + t * x_row, x_row, w, w_row, k, out + t * out_row, out_row);
  }
  for (; t < rows; ++t) {
    DotBlock<T, 1, kWeights>(x + t * x_row, x_row, w, w_row, k, out + t * out_row, out_row);
  }
}

template <typename T>
void Dot(const float* x, int64_t x_row, int64_t rows, const void* compute_w, int64_t w_row,
         int64_t w_rows, int64_t k, float* out, int64_t out_row) {
  const T* const w = static_cast<const T*>(compute_w);
  int64_t j = 0;
  for (; j + 4 <= w_rows; j += 4) {
    DotRows<T, 4>(x, x_row, rows, w + j * w_row, w_row, k, out + j, out_row);
  }
  for (; j < w_rows; ++j) {
    DotRows<T, 1>(x, x_row, rows, w + j * w_row, w_row, k, out + j, out_row);
  }
}

}  // namespace

void AddDot(bool bf16, KernelSet& set) { set.dot = bf16 ? Dot<Bf16> : Dot<float>; }

}  // namespace deltaworks::trainer::DW_ISA

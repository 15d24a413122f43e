// Products of few rows, bound by the time to read the weights: each weight is read once, for all
// rows. Compiled once for each instruction set.

#include "trainer/backend/cpu/kernels/attention.h"
#include "trainer/backend/cpu/kernels/simd.h"

namespace deltaworks::trainer::DW_ISA {
namespace {

// Weights are walked through strictly in their order, one row after the other: the memory of this
// kind of machine is twice as fast that way as with several rows at once. So that additions need
// not wait for each other, a row's chunks of 16 go to kChains sums in turn. Both functions below do
// so, in the same order, whatever the number of rows: a result's bits depend on x and w only.
constexpr int kChains = 4;

// Rows of x and of w whose sums registers hold, one chain at a time.
#if defined(__AVX512F__)
constexpr int kBlock = 4;
#else
constexpr int kBlock = 2;
#endif

// A row's elements, some at a time.
template <typename T>
struct Chunks {
  static constexpr int kSize = kLanes;
  static DW_INLINE F32 Load(const T* p, int64_t n) { return LoadChunk(p, n); }
  static DW_INLINE F32 MultiplyAdd(F32 a, F32 b, F32 sum) { return Fma(a, b, sum); }
};
#if defined(__AVX512BF16__)
template <>
struct Chunks<Bf16> {
  static constexpr int kSize = 2 * kLanes;
  static DW_INLINE __m512i Load(const Bf16* p, int64_t n) {
    return n == kSize ? _mm512_loadu_si512(p)
                      : _mm512_maskz_loadu_epi16((__mmask32{1} << n) - 1, p);
  }
  static DW_INLINE F32 MultiplyAdd(__m512i a, __m512i b, F32 sum) {
    sum.part[0] =
        _mm512_dpbf16_ps(sum.part[0], reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    return sum;
  }
};
#endif

DW_INLINE float AddChains(const F32 sums[kChains]) {
  return ReduceSum((sums[0] + sums[2]) + (sums[1] + sums[3]));
}

// One row of x with one of w.
template <typename T>
DW_INLINE float DotRow(const T* x, const T* w, int64_t k) {
  constexpr int kSize = Chunks<T>::kSize;
  F32 sums[kChains];
#pragma GCC unroll 4
  for (int c = 0; c < kChains; ++c) sums[c] = Zero();
  int64_t p = 0;
  for (; p + kChains * kSize <= k; p += kChains * kSize) {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
      sums[c] = Chunks<T>::MultiplyAdd(Chunks<T>::Load(x + p + c * kSize, kSize),
                                       Chunks<T>::Load(w + p + c * kSize, kSize), sums[c]);
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < kChains; ++c) {
    const int64_t left = k - p - c * kSize;
    if (left <= 0) break;
    const int64_t n = left < kSize ? left : kSize;
    sums[c] = Chunks<T>::MultiplyAdd(Chunks<T>::Load(x + p + c * kSize, n),
                                     Chunks<T>::Load(w + p + c * kSize, n), sums[c]);
  }
  return AddChains(sums);
}

// kBlock rows of x with kBlock of w, which should be in the first cache level.
template <typename T>
DW_INLINE void DotBlock(const T* x, int64_t x_row, const T* w, int64_t w_row, int64_t k, float* out,
                        int64_t out_row) {
  constexpr int kSize = Chunks<T>::kSize;
  F32 chains[kBlock][kBlock][kChains];
  for (int c = 0; c < kChains; ++c) {
    F32 sums[kBlock][kBlock];
#pragma GCC unroll 4
    for (int t = 0; t < kBlock; ++t) {
#pragma GCC unroll 4
      for (int j = 0; j < kBlock; ++j) sums[t][j] = Zero();
    }
    const auto add = [&](int64_t p, int64_t n) __attribute__((always_inline)) {
      decltype(Chunks<T>::Load(w, 0)) weights[kBlock];
#pragma GCC unroll 4
      for (int j = 0; j < kBlock; ++j) weights[j] = Chunks<T>::Load(w + j * w_row + p, n);
#pragma GCC unroll 4
      for (int t = 0; t < kBlock; ++t) {
        const auto factor = Chunks<T>::Load(x + t * x_row + p, n);
#pragma GCC unroll 4
        for (int j = 0; j < kBlock; ++j) {
          sums[t][j] = Chunks<T>::MultiplyAdd(factor, weights[j], sums[t][j]);
        }
      }
    };
    int64_t p = c * kSize;
    for (; p + kSize <= k; p += kChains * kSize) add(p, kSize);
    if (p < k) add(p, k - p);
#pragma GCC unroll 4
    for (int t = 0; t < kBlock; ++t) {
#pragma GCC unroll 4
      for (int j = 0; j < kBlock; ++j) chains[t][j][c] = sums[t][j];
    }
  }
  for (int t = 0; t < kBlock; ++t) {
    for (int j = 0; j < kBlock; ++j) out[t * out_row + j] = AddChains(chains[t][j]);
  }
}

// Brings memory to the first cache level, in its order.
DW_INLINE void Touch(const void* begin, int64_t bytes) {
  const char* const p = static_cast<const char*>(begin);
  for (int64_t i = 0; i < bytes; i += 64) {
    asm volatile("" : : "r"(p[i]));  // A load that the compiler may not leave out.
  }
}

template <typename T>
void Dot(const void* compute_x, int64_t x_row, int64_t rows, const void* compute_w, int64_t w_row,
         int64_t w_rows, int64_t k, float* out, int64_t out_row) {
  const T* const x = static_cast<const T*>(compute_x);
  const T* const w = static_cast<const T*>(compute_w);
  int64_t j = 0;
  for (; rows >= kBlock && j + kBlock <= w_rows; j += kBlock) {
    const T* const w_block = w + j * w_row;
    Touch(w_block, ((kBlock - 1) * w_row + k) * static_cast<int64_t>(sizeof(T)));
    int64_t t = 0;
    for (; t + kBlock <= rows; t += kBlock) {
      DotBlock(x + t * x_row, x_row, w_block, w_row, k, out + t * out_row + j, out_row);
    }
    for (; t < rows; ++t) {
      for (int i = 0; i < kBlock; ++i) {
        out[t * out_row + j + i] = DotRow(x + t * x_row, w_block + i * w_row, k);
      }
    }
  }
  for (; j < w_rows; ++j) {
    for (int64_t t = 0; t < rows; ++t) {
      out[t * out_row + j] = DotRow(x + t * x_row, w + j * w_row, k);
    }
  }
}

}  // namespace

void AddDot(bool bf16, KernelSet& set) { set.dot = bf16 ? Dot<Bf16> : Dot<float>; }

}  // namespace deltaworks::trainer::DW_ISA

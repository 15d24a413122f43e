// What the attention kernels share: places of queries among keys, tiles in shared memory, and
// products of tiles by one warp on tensor cores.
//
// A tile in shared memory is rows of kWidth bf16 with 8 more between them, which spreads the eight
// rows of an ldmatrix over all banks for each width used here. Columns behind head_dim and rows
// behind the span's end are filled with zeros.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_ATTENTION_TILE_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_ATTENTION_TILE_H_

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "trainer/backend/cuda/kernels/attention.h"
#include "trainer/backend/cuda/kernels/device_code.h"

#ifdef DW_EMULATED_CUDA
#define DW_UNROLL
#define DW_UNROLL_PARTLY
#else
#define DW_UNROLL _Pragma("unroll")
#define DW_UNROLL_PARTLY _Pragma("unroll kUnroll")  // kUnroll is in scope.
#endif

namespace deltaworks::trainer::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

// 2^x within 2^-22 relatively; 0 where that is below the normal numbers.
__device__ __forceinline__ float Exp2(float x) {
#ifdef DW_EMULATED_CUDA
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// A span's queries among its keys, both counted from the span's first.
struct Places {
  int query_begin;
  int key_begin;
  int queries;
  int keys;
  bool causal;

  const int32_t* pages;  // nullptr: keys are adjacent.

  __device__ __forceinline__ Places(const AttentionArguments& arguments, int index)
      : Places(arguments.spans[index], arguments) {}

  // The row of a key; those of its tile follow.
  __device__ __forceinline__ int64_t KeyRow(int key) const {
    if (pages == nullptr) return static_cast<int64_t>(key_begin) + key;
    return static_cast<int64_t>(pages[key / kKeyTile]) * kKeyTile + key % kKeyTile;
  }

  // Keys that a query sees: the first so many.
  __device__ __forceinline__ int Seen(int query) const {
    return causal ? keys - (queries - 1 - query) : keys;
  }
  // The first query that sees a key.
  __device__ __forceinline__ int FirstQuery(int key) const {
    return causal ? max(0, key - (keys - queries)) : 0;
  }

 private:
  __device__ __forceinline__ Places(const Span& span, const AttentionArguments& arguments)
      : query_begin(span.query_begin),
        key_begin(span.key_begin),
        queries(span.query_end - span.query_begin),
        keys(span.key_end - span.key_begin),
        causal(arguments.causal != 0),
        pages(span.page_begin < 0 ? nullptr : arguments.pages + span.page_begin) {}
};

__host__ __device__ constexpr int Pitch(int width) { return width + 8; }

// Which 16 bytes of a tile of kRows rows a thread copies: those of one column in every kStep-th
// row.
template <int kWidth, int kRows, int kThreads>
struct CopyShape {
  static constexpr int kAcross = kWidth <= 16    ? 2
                                 : kWidth <= 32  ? 4
                                 : kWidth <= 64  ? 8
                                 : kWidth <= 128 ? 16
                                                 : 32;  // A power of 2, at least kWidth / 8.
  static constexpr int kStep = kThreads / kAcross;
  static constexpr int kCount = kRows < kStep ? 1 : kRows / kStep;
  static_assert(kRows < kStep || kRows % kStep == 0);

  static __device__ __forceinline__ int Row() { return threadIdx.x / kAcross; }
  static __device__ __forceinline__ int Column() { return threadIdx.x % kAcross * 8; }
  static __device__ __forceinline__ bool HasNone() { return Row() >= kRows || Column() >= kWidth; }
};

// Begins to copy kRows rows, of which `rows` exist, of `head_dim` columns.
template <int kWidth, int kRows, int kThreads>
__device__ __forceinline__ void CopyTile(Bf16* tile, const Bf16* from, int row_stride, int rows,
                                         int head_dim) {
  using Shape = CopyShape<kWidth, kRows, kThreads>;
  const int row = Shape::Row();
  const int column = Shape::Column();
  if (Shape::HasNone()) return;
  const int left = column < head_dim ? rows - row : 0;
  const Bf16* source = from + static_cast<int64_t>(row) * row_stride + column;
  Bf16* const target = tile + row * Pitch(kWidth) + column;
  DW_UNROLL
  for (int i = 0; i < Shape::kCount; ++i) {
    const bool valid = i * Shape::kStep < left;
    CopyAsync16(target + i * Shape::kStep * Pitch(kWidth), valid ? source : from, valid);
    source += Shape::kStep * row_stride;
  }
}

// d [16 kM, 8 kN] += a b^T over kWidth, a and b tiles of which these are the first rows. The loop
// over kWidth is unrolled kUnroll times: less of it is for kernels that are short of registers.
template <int kWidth, int kUnroll = kWidth / 16, int kM, int kN>
__device__ __forceinline__ void MultiplyTransposed(float (&d)[kM][kN][4], const Bf16* a,
                                                   const Bf16* b) {
  constexpr int kPitch = Pitch(kWidth);
  const int lane = threadIdx.x % kWarp;
  const Bf16* const a_row = a + lane % 16 * kPitch + lane / 16 * 8;
  const Bf16* const b_row = b + (lane % 8 + lane / 16 * 8) * kPitch + lane / 8 % 2 * 8;
  DW_UNROLL_PARTLY for (int k = 0; k < kWidth; k += 16) {
    uint32_t left[kM][4];
    DW_UNROLL
    for (int m = 0; m < kM; ++m) LoadTiles(left[m], a_row + m * 16 * kPitch + k);
    DW_UNROLL
    for (int n = 0; n < kN; n += 2) {
      uint32_t right[4];
      LoadTiles(right, b_row + n * 8 * kPitch + k);
      const uint32_t first[2] = {right[0], right[1]};
      const uint32_t second[2] = {right[2], right[3]};
      DW_UNROLL
      for (int m = 0; m < kM; ++m) {
        MmaBf16(d[m][n], left[m], first);
        MmaBf16(d[m][n + 1], left[m], second);
      }
    }
  }
}

// d [16 kM, 8 kN] += a b, a [16 kM, 16 kK] as a product left it, rounded to bf16 here, and b a tile
// of which this is the first row and the first column.
template <int kWidth, int kM, int kK, int kN>
__device__ __forceinline__ void MultiplyRounded(float (&d)[kM][kN][4],
                                                const float (&a)[kM][2 * kK][4], const Bf16* b) {
  constexpr int kPitch = Pitch(kWidth);
  const int lane = threadIdx.x % kWarp;
  const Bf16* const b_row = b + lane % 16 * kPitch + lane / 16 * 8;
  DW_UNROLL
  for (int k = 0; k < kK; ++k) {
    uint32_t left[kM][4];
    DW_UNROLL
    for (int m = 0; m < kM; ++m) {
      left[m][0] = PackBf16(a[m][2 * k][0], a[m][2 * k][1]);
      left[m][1] = PackBf16(a[m][2 * k][2], a[m][2 * k][3]);
      left[m][2] = PackBf16(a[m][2 * k + 1][0], a[m][2 * k + 1][1]);
      left[m][3] = PackBf16(a[m][2 * k + 1][2], a[m][2 * k + 1][3]);
    }
    DW_UNROLL
    for (int n = 0; n < kN; n += 2) {
      uint32_t right[4];
      LoadTilesTransposed(right, b_row + k * 16 * kPitch + n * 8);
      const uint32_t first[2] = {right[0], right[1]};
      const uint32_t second[2] = {right[2], right[3]};
      DW_UNROLL
      for (int m = 0; m < kM; ++m) {
        MmaBf16(d[m][n], left[m], first);
        MmaBf16(d[m][n + 1], left[m], second);
      }
    }
  }
}

template <int kM, int kN>
__device__ __forceinline__ void Clear(float (&d)[kM][kN][4]) {
  DW_UNROLL
  for (int m = 0; m < kM; ++m) {
    DW_UNROLL
    for (int n = 0; n < kN; ++n) {
      DW_UNROLL
      for (int e = 0; e < 4; ++e) d[m][n][e] = 0;
    }
  }
}

// Rounds d [16 kM, 8 kN] times a factor for each row into the first `rows` rows and `columns`
// columns (even) of `to`, -0 as 0: which zero it is may depend on how often 0 was added.
template <int kM, int kN>
__device__ __forceinline__ void StoreRounded(const float (&d)[kM][kN][4],
                                             const float (&factors)[kM][2], int rows, int columns,
                                             Bf16* to, int row_stride) {
  const int lane = threadIdx.x % kWarp;
  DW_UNROLL
  for (int m = 0; m < kM; ++m) {
    DW_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = m * 16 + half * 8 + lane / 4;
      if (row >= rows) continue;
      Bf16* const to_row = to + static_cast<int64_t>(row) * row_stride;
      DW_UNROLL
      for (int n = 0; n < kN; ++n) {
        const int column = n * 8 + lane % 4 * 2;
        if (column >= columns) continue;
        *reinterpret_cast<uint32_t*>(to_row + column) =
            PackBf16(fmaf(d[m][n][2 * half], factors[m][half], 0.0f),
                     fmaf(d[m][n][2 * half + 1], factors[m][half], 0.0f));
      }
    }
  }
}

// Whether the kernels on tensor cores take such heads.
template <typename T>
bool OnTensorCores(int head_dim) {
  return std::is_same_v<T, Bf16> && head_dim % 8 == 0;
}

// Calls run(std::integral_constant) with the width of tile for head_dim.
template <typename Run>
void WithWidth(int head_dim, Run run) {
  if (head_dim <= 16) {
    run(std::integral_constant<int, 16>());
  } else if (head_dim <= 32) {
    run(std::integral_constant<int, 32>());
  } else if (head_dim <= 64) {
    run(std::integral_constant<int, 64>());
  } else if (head_dim <= 96) {
    run(std::integral_constant<int, 96>());
  } else if (head_dim <= 128) {
    run(std::integral_constant<int, 128>());
  } else if (head_dim <= 192) {
    run(std::integral_constant<int, 192>());
  } else {
    run(std::integral_constant<int, 256>());
  }
}

// attention_plain.cu: any T and head_dim.
template <typename T>
void PlainForward(Stream stream, const AttentionArguments& arguments, const Piece* pieces,
                  int64_t count, const T* q, const T* k, const T* v, T* out, float* lse);
template <typename T>
void PlainQueryGradients(Stream stream, const AttentionArguments& arguments, const Piece* pieces,
                         int64_t count, const T* q, const T* k, const T* v, const float* lse,
                         const T* dout, const float* delta, T* dq);
template <typename T>
void PlainKeyGradients(Stream stream, const AttentionArguments& arguments, const Piece* pieces,
                       int64_t count, const T* q, const T* k, const T* v, const float* lse,
                       const T* dout, const float* delta, T* dk, T* dv);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_ATTENTION_TILE_H_

// Attention forward for Bf16 on tensor cores, after FlashAttention-2 (Dao 2023).
//
// A block takes kQueryTile queries of one head and reads the keys of their span in steps of
// kKeyTile, counted from the span's first key, the next step's copied while this one is multiplied.
// A warp owns 16 kM queries: scores, probabilities and output stay in its registers.
//
// A query's row never meets another query's, and keys that it does not see are exact no-ops: their
// scores are -inf by selection, so they change neither the largest score nor the sum, and add 0
// times a finite value to the output. That values are finite is seen to where some queries of the
// block do not see all keys of a step: others are replaced by zeros there and added afterwards for
// the queries that do see them.

#include "trainer/backend/cuda/kernels/attention.h"
#include "trainer/backend/cuda/kernels/attention_tile.h"

namespace deltaworks::trainer::cuda {
namespace {

__device__ __forceinline__ bool IsFinite(uint32_t bf16) { return (bf16 & 0x7f80u) != 0x7f80u; }

// Zeros in place of what is not finite among the values that this thread copied (see CopyTile);
// *sick becomes 1 if there was any.
template <int kWidth, int kRows, int kThreads>
__device__ __forceinline__ void CleanOwnCopies(Bf16* tile, int* sick) {
  using Shape = CopyShape<kWidth, kRows, kThreads>;
  if (Shape::HasNone()) return;
  for (int i = 0; i < Shape::kCount; ++i) {
    uint32_t* const words = reinterpret_cast<uint32_t*>(
        tile + (Shape::Row() + i * Shape::kStep) * Pitch(kWidth) + Shape::Column());
    for (int w = 0; w < 4; ++w) {
      const uint32_t word = words[w];
      const bool low = IsFinite(word), high = IsFinite(word >> 16);
      if (low && high) continue;
      words[w] = (low ? word & 0xffffu : 0) | (high ? word & 0xffff0000u : 0);
      *sick = 1;
    }
  }
}

// What CleanOwnCopies took away, from memory: added to the output rows that see it.
//   values  Row 0 of the step, column 0 of the head.
//   seen    Keys of the step that the thread's first row sees; each 8 rows on, `more` more.
template <int kM, int kN>
__device__ __forceinline__ void AddSickValues(float (&output)[kM][kN][4], const Bf16* values,
                                              int64_t row_stride, int rows, int head_dim, int seen,
                                              int more) {
  const int lane = threadIdx.x % kWarp;
  for (int row = 0; row < rows; ++row) {
    DW_UNROLL
    for (int n = 0; n < kN; ++n) {
      DW_UNROLL
      for (int e = 0; e < 2; ++e) {
        const int column = n * 8 + lane % 4 * 2 + e;
        if (column >= head_dim) continue;
        const Bf16 value = values[row * row_stride + column];
        if (IsFinite(value.bits)) continue;
        DW_UNROLL
        for (int m = 0; m < kM; ++m) {
          if (row < seen + 2 * m * more) output[m][n][e] += ToFloat(value);
          if (row < seen + (2 * m + 1) * more) output[m][n][2 + e] += ToFloat(value);
        }
      }
    }
  }
}

template <int kWidth>
struct Forward {
  // 32 queries to a warp halve what is read from shared memory, as far as registers reach.
  static constexpr int kM = kWidth <= 128 ? 2 : 1;
  static constexpr int kWarps = kQueryTile / (16 * kM);
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocks = kWidth <= 128 ? 2 : 1;  // At a time on one multiprocessor.
  static constexpr int kQueryElements = kQueryTile * Pitch(kWidth);
  static constexpr int kKeyElements = kKeyTile * Pitch(kWidth);
  // Queries, two steps of keys and values, and whether a value was not finite.
  static constexpr int kBytes = (kQueryElements + 4 * kKeyElements) * 2 + 16;
};

template <int kWidth>
__global__ void __launch_bounds__(Forward<kWidth>::kThreads, Forward<kWidth>::kBlocks)
    ForwardKernel(AttentionArguments arguments, const Piece* pieces, const Bf16* q, const Bf16* k,
                  const Bf16* v, Bf16* out, float* lse) {
  using Shape = Forward<kWidth>;
  constexpr int kM = Shape::kM;
  constexpr int kN = kKeyTile / 8;
  constexpr int kThreads = Shape::kThreads;
  const int heads = arguments.query_heads;
  const int head_dim = arguments.head_dim;
  const int head = blockIdx.x % heads;
  const Piece piece = pieces[blockIdx.x / heads];
  const Places places(arguments, piece.span);
  const int first = piece.tile * kQueryTile;
  const int rows = min(kQueryTile, places.queries - first);
  if (rows <= 0) return;

  Bf16* const queries = DynamicShared<Bf16>();
  Bf16* const keys = queries + Shape::kQueryElements;
  Bf16* const values = keys + 2 * Shape::kKeyElements;
  int* const sick = reinterpret_cast<int*>(values + 2 * Shape::kKeyElements);

  const int q_stride = heads * head_dim;
  const int k_stride = arguments.kv_heads * head_dim;
  const int64_t q_offset =
      static_cast<int64_t>(places.query_begin + first) * q_stride + head * head_dim;
  k += head / (heads / arguments.kv_heads) * head_dim;
  v += head / (heads / arguments.kv_heads) * head_dim;

  const int warp_first = static_cast<int>(threadIdx.x) / kWarp * 16 * kM;
  const int lane = threadIdx.x % kWarp;
  const int seen_by_all = places.Seen(first);
  const int seen_by_block = places.Seen(first + rows - 1);
  // 0 if the warp has no query.
  const int seen_by_warp =
      warp_first < rows ? places.Seen(first + min(warp_first + 16 * kM, rows) - 1) : 0;
  const int steps = (max(seen_by_block, 0) + kKeyTile - 1) / kKeyTile;

  const auto copy_step = [&](int step) {
    const int64_t offset = places.KeyRow(step * kKeyTile) * k_stride;
    const int count = places.keys - step * kKeyTile;
    const int buffer = step % 2 * Shape::kKeyElements;
    CopyTile<kWidth, kKeyTile, kThreads>(keys + buffer, k + offset, k_stride, count, head_dim);
    CopyTile<kWidth, kKeyTile, kThreads>(values + buffer, v + offset, k_stride, count, head_dim);
    CommitCopies();
  };
  if (threadIdx.x == 0) *sick = 0;
  __syncthreads();
  if (steps > 0) {
    CopyTile<kWidth, kQueryTile, kThreads>(queries, q + q_offset, q_stride, rows, head_dim);
    copy_step(0);
  }

  const float scale = arguments.scale * kLog2E;
  float output[kM][kWidth / 8][4];
  Clear(output);
  float largest[kM][2];  // Of the scores so far, scaled; of powers of 2.
  float sum[kM][2];      // This thread's part.
  DW_UNROLL
  for (int m = 0; m < kM; ++m) {
    largest[m][0] = largest[m][1] = -INFINITY;
    sum[m][0] = sum[m][1] = 0;
  }

  for (int step = 0; step < steps; ++step) {
    const int step_begin = step * kKeyTile;
    const int buffer = step % 2 * Shape::kKeyElements;
    const bool masked = step_begin + kKeyTile > seen_by_all;
    WaitForCopies<0>();
    if (masked && places.causal) {
      CleanOwnCopies<kWidth, kKeyTile, kThreads>(values + buffer, sick);
    }
    __syncthreads();
    if (step + 1 < steps) copy_step(step + 1);
    if (step_begin >= seen_by_warp) continue;  // The same for the whole warp.

    float p[kM][kN][4];
    Clear(p);
    MultiplyTransposed<kWidth>(p, queries + warp_first * Pitch(kWidth), keys + buffer);
    // Keys of this step that the thread's first query sees; its others are 8 on each.
    const int seen = places.Seen(first + warp_first + lane / 4) - step_begin;
    const int more = places.causal ? 8 : 0;
    if (masked) {
      DW_UNROLL
      for (int m = 0; m < kM; ++m) {
        DW_UNROLL
        for (int n = 0; n < kN; ++n) {
          DW_UNROLL
          for (int e = 0; e < 4; ++e) {
            if (n * 8 + lane % 4 * 2 + e % 2 >= seen + (2 * m + e / 2) * more)
              p[m][n][e] = -INFINITY;
          }
        }
      }
    }
    DW_UNROLL
    for (int m = 0; m < kM; ++m) {
      DW_UNROLL
      for (int half = 0; half < 2; ++half) {
        float top = -INFINITY;
        DW_UNROLL
        for (int n = 0; n < kN; ++n) {
          top = fmaxf(top, fmaxf(p[m][n][2 * half], p[m][n][2 * half + 1]));
        }
        top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
        top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
        top = fmaxf(largest[m][half], top * scale);
        // Of a query that has seen nothing yet, all exponentials below are of -inf.
        const float shift = top == -INFINITY ? 0 : top;
        const float correction = Exp2(largest[m][half] - shift);
        largest[m][half] = top;
        float total = 0;
        DW_UNROLL
        for (int n = 0; n < kN; ++n) {
          DW_UNROLL
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            p[m][n][e] = Exp2(fmaf(p[m][n][e], scale, -shift));
            total += p[m][n][e];
          }
        }
        sum[m][half] = fmaf(sum[m][half], correction, total);
        if (correction != 1) {
          DW_UNROLL
          for (int n = 0; n < kWidth / 8; ++n) {
            output[m][n][2 * half] *= correction;
            output[m][n][2 * half + 1] *= correction;
          }
        }
      }
    }
    MultiplyRounded<kWidth, kM, kKeyTile / 16>(output, p, values + buffer);
    if (masked && places.causal && *sick != 0) {
      AddSickValues(output, v + places.KeyRow(step_begin) * k_stride, k_stride,
                    min(kKeyTile, places.keys - step_begin), head_dim, seen, more);
    }
  }

  float factors[kM][2];
  DW_UNROLL
  for (int m = 0; m < kM; ++m) {
    DW_UNROLL
    for (int half = 0; half < 2; ++half) {
      float total = sum[m][half];
      total += __shfl_xor_sync(kAllLanes, total, 1);
      total += __shfl_xor_sync(kAllLanes, total, 2);
      factors[m][half] = total == 0 ? 0 : 1 / total;
      const int row = warp_first + m * 16 + half * 8 + lane / 4;
      if (lse != nullptr && lane % 4 == 0 && row < rows) {
        lse[static_cast<int64_t>(places.query_begin + first + row) * heads + head] =
            (largest[m][half] + log2f(total)) * kLn2;
      }
    }
  }
  StoreRounded(output, factors, rows - warp_first, head_dim, out + q_offset + warp_first * q_stride,
               q_stride);
}

}  // namespace

template <typename T>
void AttentionForward(Stream stream, const AttentionArguments& arguments, const Piece* pieces,
                      int64_t count, const T* q, const T* k, const T* v, T* out, float* lse) {
  if (count == 0) return;
  if constexpr (std::is_same_v<T, Bf16>) {
    if (OnTensorCores<T>(arguments.head_dim)) {
      WithWidth(arguments.head_dim, [&](auto width) {
        using Shape = Forward<decltype(width)::value>;
        const auto kernel = ForwardKernel<decltype(width)::value>;
        AllowShared(kernel, Shape::kBytes);
        const unsigned blocks = static_cast<unsigned>(count * arguments.query_heads);
        DW_LAUNCH(stream, kernel, dim3(blocks), dim3(Shape::kThreads), Shape::kBytes, arguments,
                  pieces, q, k, v, out, lse);
      });
      return;
    }
  }
  PlainForward(stream, arguments, pieces, count, q, k, v, out, lse);
}

template void AttentionForward(Stream, const AttentionArguments&, const Piece*, int64_t,
                               const float*, const float*, const float*, float*, float*);
template void AttentionForward(Stream, const AttentionArguments&, const Piece*, int64_t,
                               const Bf16*, const Bf16*, const Bf16*, Bf16*, float*);

}  // namespace deltaworks::trainer::cuda

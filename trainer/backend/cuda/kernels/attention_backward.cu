// Attention backward. With p the probabilities, from lse, and of one head
//   delta = sum of dout * out, for each query
//   dp = dout v^T        ds = p (dp - delta)
//   dq = scale ds k      dk = scale ds^T q      dv = p^T dout
// in three kernels: delta; dq, a block for each tile of queries; dk and dv, a block for each tile
// of keys, which goes through the query heads of its group in order. p and ds are computed twice,
// and nothing is added by two blocks, so no order is left open.
//
// On tensor cores, after FlashAttention-2: a warp owns rows of the result, and p and ds stay in its
// registers; for keys it computes them transposed.

#include "trainer/backend/cuda/kernels/attention.h"
#include "trainer/backend/cuda/kernels/attention_tile.h"

namespace deltaworks::trainer::cuda {
namespace {

constexpr int kDeltaThreads = 256;

// A block for each piece and head, a warp for each query.
template <typename T>
__global__ void __launch_bounds__(kDeltaThreads)
    DeltaKernel(AttentionArguments arguments, const Piece* pieces, const T* out, const T* dout,
                float* delta) {
  const int heads = arguments.query_heads;
  const int head = blockIdx.x % heads;
  const Piece piece = pieces[blockIdx.x / heads];
  const Span span = arguments.spans[piece.span];
  const int begin = span.query_begin + piece.tile * kQueryTile;
  const int end = min(begin + kQueryTile, span.query_end);
  const int lane = threadIdx.x % kWarp;
  for (int row = begin + threadIdx.x / kWarp; row < end; row += kDeltaThreads / kWarp) {
    const int64_t number = static_cast<int64_t>(row) * heads + head;
    const int64_t offset = number * arguments.head_dim;
    float sum = 0;
    for (int column = lane; column < arguments.head_dim; column += kWarp) {
      sum = fmaf(ToFloat(dout[offset + column]), ToFloat(out[offset + column]), sum);
    }
    sum = WarpSum(sum);
    if (lane == 0) delta[number] = sum;
  }
}

template <int kWidth>
struct QueryGradients {
  static constexpr int kM = kWidth <= 128 ? 2 : 1;
  static constexpr int kWarps = kQueryTile / (16 * kM);
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocks = kWidth <= 128 ? 2 : 1;
  static constexpr int kKeys = 32;  // At a time.
  static constexpr int kQueryElements = kQueryTile * Pitch(kWidth);
  static constexpr int kKeyElements = kKeys * Pitch(kWidth);
  // Queries, their dout, and two steps of keys and values.
  static constexpr int kBytes = (2 * kQueryElements + 4 * kKeyElements) * 2;
};

template <int kWidth>
__global__ void __launch_bounds__(QueryGradients<kWidth>::kThreads, QueryGradients<kWidth>::kBlocks)
    QueryGradientsKernel(AttentionArguments arguments, const Piece* pieces, const Bf16* q,
                         const Bf16* k, const Bf16* v, const float* lse, const Bf16* dout,
                         const float* delta, Bf16* dq) {
  using Shape = QueryGradients<kWidth>;
  constexpr int kM = Shape::kM;
  constexpr int kKeys = Shape::kKeys;
  constexpr int kN = kKeys / 8;
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
  Bf16* const gradients = queries + Shape::kQueryElements;
  Bf16* const keys = gradients + Shape::kQueryElements;
  Bf16* const values = keys + 2 * Shape::kKeyElements;

  const int q_stride = heads * head_dim;
  const int k_stride = arguments.kv_heads * head_dim;
  const int first_row = places.query_begin + first;
  const int64_t q_offset = static_cast<int64_t>(first_row) * q_stride + head * head_dim;
  const int64_t k_offset = static_cast<int64_t>(places.key_begin) * k_stride +
                           head / (heads / arguments.kv_heads) * head_dim;

  const int warp_first = static_cast<int>(threadIdx.x) / kWarp * 16 * kM;
  const int lane = threadIdx.x % kWarp;
  const int seen_by_all = places.Seen(first);
  const int seen_by_warp =
      warp_first < rows ? places.Seen(first + min(warp_first + 16 * kM, rows) - 1) : 0;
  const int steps = (max(places.Seen(first + rows - 1), 0) + kKeys - 1) / kKeys;

  const auto copy_step = [&](int step) {
    const int64_t offset = k_offset + static_cast<int64_t>(step) * kKeys * k_stride;
    const int count = places.keys - step * kKeys;
    const int buffer = step % 2 * Shape::kKeyElements;
    CopyTile<kWidth, kKeys, kThreads>(keys + buffer, k + offset, k_stride, count, head_dim);
    CopyTile<kWidth, kKeys, kThreads>(values + buffer, v + offset, k_stride, count, head_dim);
    CommitCopies();
  };
  if (steps > 0) {
    CopyTile<kWidth, kQueryTile, kThreads>(queries, q + q_offset, q_stride, rows, head_dim);
    CopyTile<kWidth, kQueryTile, kThreads>(gradients, dout + q_offset, q_stride, rows, head_dim);
    copy_step(0);
  }

  float row_lse[kM][2];  // Of powers of 2.
  float row_delta[kM][2];
  DW_UNROLL
  for (int m = 0; m < kM; ++m) {
    DW_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + min(warp_first + m * 16 + half * 8 + lane / 4, rows - 1);
      row_lse[m][half] = lse[static_cast<int64_t>(row) * heads + head] * kLog2E;
      row_delta[m][half] = delta[static_cast<int64_t>(row) * heads + head];
    }
  }
  const float scale = arguments.scale * kLog2E;
  float result[kM][kWidth / 8][4];
  Clear(result);

  for (int step = 0; step < steps; ++step) {
    const int step_begin = step * kKeys;
    const int buffer = step % 2 * Shape::kKeyElements;
    WaitForCopies<0>();
    __syncthreads();
    if (step + 1 < steps) copy_step(step + 1);
    if (step_begin >= seen_by_warp) continue;  // The same for the whole warp.

    float p[kM][kN][4], ds[kM][kN][4];
    Clear(p);
    Clear(ds);
    MultiplyTransposed<kWidth, 4>(p, queries + warp_first * Pitch(kWidth), keys + buffer);
    MultiplyTransposed<kWidth, 4>(ds, gradients + warp_first * Pitch(kWidth), values + buffer);
    DW_UNROLL
    for (int m = 0; m < kM; ++m) {
      DW_UNROLL
      for (int n = 0; n < kN; ++n) {
        DW_UNROLL
        for (int e = 0; e < 4; ++e) {
          ds[m][n][e] = Exp2(fmaf(p[m][n][e], scale, -row_lse[m][e / 2])) *
                        (ds[m][n][e] - row_delta[m][e / 2]);
        }
      }
    }
    if (step_begin + kKeys > seen_by_all) {
      const int seen = places.Seen(first + warp_first + lane / 4) - step_begin;
      const int more = places.causal ? 8 : 0;
      DW_UNROLL
      for (int m = 0; m < kM; ++m) {
        DW_UNROLL
        for (int n = 0; n < kN; ++n) {
          DW_UNROLL
          for (int e = 0; e < 4; ++e) {
            if (n * 8 + lane % 4 * 2 + e % 2 >= seen + (2 * m + e / 2) * more) ds[m][n][e] = 0;
          }
        }
      }
    }
    MultiplyRounded<kWidth, kM, kKeys / 16>(result, ds, keys + buffer);
  }

  float factors[kM][2];
  DW_UNROLL
  for (int m = 0; m < kM; ++m) factors[m][0] = factors[m][1] = arguments.scale;
  StoreRounded(result, factors, rows - warp_first, head_dim, dq + q_offset + warp_first * q_stride,
               q_stride);
}

// Registers hold dk and dv of 128 columns: wider heads are done in two parts, by blocks that differ
// in nothing else.
template <int kWidth>
struct KeyGradients {
  static constexpr int kParts = kWidth <= 128 ? 1 : 2;
  static constexpr int kColumns = kWidth / kParts;
  static constexpr int kWarps = kKeyTile / 16;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocks = kWidth <= 128 ? 2 : 1;
  static constexpr int kQueries = 64;  // At a time.
  static constexpr int kKeyElements = kKeyTile * Pitch(kWidth);
  static constexpr int kQueryElements = kQueries * Pitch(kWidth);
  // Keys, values, and two steps of queries, their dout, lse and delta.
  static constexpr int kBytes =
      (2 * kKeyElements + 4 * kQueryElements) * 2 + 4 * kQueries * static_cast<int>(sizeof(float));
  static_assert(kThreads == 2 * kQueries);
};

template <int kWidth>
__global__ void __launch_bounds__(KeyGradients<kWidth>::kThreads, KeyGradients<kWidth>::kBlocks)
    KeyGradientsKernel(AttentionArguments arguments, const Piece* pieces, const Bf16* q,
                       const Bf16* k, const Bf16* v, const float* lse, const Bf16* dout,
                       const float* delta, Bf16* dk, Bf16* dv) {
  using Shape = KeyGradients<kWidth>;
  constexpr int kQueries = Shape::kQueries;
  constexpr int kN = kQueries / 8;
  constexpr int kThreads = Shape::kThreads;
  const int heads = arguments.query_heads;
  const int group = heads / arguments.kv_heads;
  const int head_dim = arguments.head_dim;
  const int first_column = blockIdx.x % Shape::kParts * Shape::kColumns;
  const int index = blockIdx.x / Shape::kParts;
  const int kv_head = index % arguments.kv_heads;
  const Piece piece = pieces[index / arguments.kv_heads];
  const Places places(arguments, piece.span);
  const int first = piece.tile * kKeyTile;
  const int rows = min(kKeyTile, places.keys - first);
  if (rows <= 0) return;

  Bf16* const keys = DynamicShared<Bf16>();
  Bf16* const values = keys + Shape::kKeyElements;
  Bf16* const queries = values + Shape::kKeyElements;
  Bf16* const gradients = queries + 2 * Shape::kQueryElements;
  float* const lses = reinterpret_cast<float*>(gradients + 2 * Shape::kQueryElements);
  float* const deltas = lses + 2 * kQueries;

  const int q_stride = heads * head_dim;
  const int k_stride = arguments.kv_heads * head_dim;
  const int64_t k_offset =
      static_cast<int64_t>(places.key_begin + first) * k_stride + kv_head * head_dim;

  // Each step is a tile of queries of one head: for each head of the group, those tiles whose last
  // query sees the first key.
  const int first_query = places.FirstQuery(first) / kQueries * kQueries;
  const int end_head = first_query < places.queries ? (kv_head + 1) * group : kv_head * group;
  struct Step {
    int head;
    int query;
    int buffer;  // 0 or 1.
  };
  const auto advance = [&](Step& step) {
    step.buffer ^= 1;
    step.query += kQueries;
    if (step.query >= places.queries) {
      step.query = first_query;
      ++step.head;
    }
  };
  const auto copy_step = [&](const Step& step) {
    const int64_t offset =
        static_cast<int64_t>(places.query_begin + step.query) * q_stride + step.head * head_dim;
    const int count = places.queries - step.query;
    const int buffer = step.buffer * Shape::kQueryElements;
    CopyTile<kWidth, kQueries, kThreads>(queries + buffer, q + offset, q_stride, count, head_dim);
    CopyTile<kWidth, kQueries, kThreads>(gradients + buffer, dout + offset, q_stride, count,
                                         head_dim);
    CommitCopies();
  };
  // lse, of powers of 2, or delta of the thread's query: infinite where there is none, so that its
  // probability is 0.
  const bool has_lse = threadIdx.x < kQueries;
  const auto load_number = [&](const Step& step) -> float {
    const int query = step.query + static_cast<int>(threadIdx.x) % kQueries;
    if (query >= places.queries) return has_lse ? INFINITY : 0;
    const int64_t number = static_cast<int64_t>(places.query_begin + query) * heads + step.head;
    return has_lse ? lse[number] * kLog2E : delta[number];
  };
  float* const own_number = (has_lse ? lses : deltas) + threadIdx.x % kQueries;

  CopyTile<kWidth, kKeyTile, kThreads>(keys, k + k_offset, k_stride, rows, head_dim);
  CopyTile<kWidth, kKeyTile, kThreads>(values, v + k_offset, k_stride, rows, head_dim);
  CommitCopies();
  Step step = {kv_head * group, first_query, 0};
  if (step.head < end_head) {
    copy_step(step);
    *own_number = load_number(step);
  }

  const int warp_first = static_cast<int>(threadIdx.x) / kWarp * 16;
  const int lane = threadIdx.x % kWarp;
  const float scale = arguments.scale * kLog2E;
  float key_result[1][Shape::kColumns / 8][4], value_result[1][Shape::kColumns / 8][4];
  Clear(key_result);
  Clear(value_result);

  while (step.head < end_head) {
    const int begin = step.query;
    const int buffer = step.buffer * Shape::kQueryElements;
    const int numbers = step.buffer * kQueries;
    WaitForCopies<0>();
    __syncthreads();
    advance(step);
    const bool more_steps = step.head < end_head;
    float next_number = 0;
    if (more_steps) {
      copy_step(step);
      next_number = load_number(step);
    }
    // The same for the whole warp: it has keys, and the last query sees the first of them.
    if (warp_first < rows && warp_first + first < places.Seen(begin + kQueries - 1)) {
      float p[1][kN][4], ds[1][kN][4];  // Transposed: rows are keys.
      Clear(p);
      Clear(ds);
      MultiplyTransposed<kWidth>(p, keys + warp_first * Pitch(kWidth), queries + buffer);
      MultiplyTransposed<kWidth>(ds, values + warp_first * Pitch(kWidth), gradients + buffer);
      const float2* const step_lses = reinterpret_cast<const float2*>(lses + numbers) + lane % 4;
      const float2* const step_deltas =
          reinterpret_cast<const float2*>(deltas + numbers) + lane % 4;
      DW_UNROLL
      for (int n = 0; n < kN; ++n) {
        const float2 two_lses = step_lses[n * 4];
        const float2 two_deltas = step_deltas[n * 4];
        DW_UNROLL
        for (int e = 0; e < 4; ++e) {
          p[0][n][e] = Exp2(fmaf(p[0][n][e], scale, -(e % 2 == 0 ? two_lses.x : two_lses.y)));
          ds[0][n][e] = p[0][n][e] * (ds[0][n][e] - (e % 2 == 0 ? two_deltas.x : two_deltas.y));
        }
      }
      if (places.Seen(begin) < first + kKeyTile) {
        // Query column of the step sees a key if Seen(begin) + column, or Seen(begin), is above it.
        const int unseen = first + warp_first + lane / 4 - places.Seen(begin);
        const int more = places.causal ? 1 : 0;
        DW_UNROLL
        for (int n = 0; n < kN; ++n) {
          DW_UNROLL
          for (int e = 0; e < 4; ++e) {
            if ((n * 8 + lane % 4 * 2 + e % 2) * more <= unseen + e / 2 * 8) {
              p[0][n][e] = 0;
              ds[0][n][e] = 0;
            }
          }
        }
      }
      MultiplyRounded<kWidth, 1, kQueries / 16>(value_result, p, gradients + buffer + first_column);
      MultiplyRounded<kWidth, 1, kQueries / 16>(key_result, ds, queries + buffer + first_column);
    }
    if (more_steps) own_number[step.buffer * kQueries] = next_number;
  }
  WaitForCopies<0>();

  const int64_t offset = k_offset + warp_first * k_stride + first_column;
  StoreRounded(key_result, {{arguments.scale, arguments.scale}}, rows - warp_first,
               head_dim - first_column, dk + offset, k_stride);
  StoreRounded(value_result, {{1, 1}}, rows - warp_first, head_dim - first_column, dv + offset,
               k_stride);
}

}  // namespace

template <typename T>
void AttentionBackward(Stream stream, const AttentionArguments& arguments,
                       const Piece* query_pieces, int64_t query_count, const Piece* key_pieces,
                       int64_t key_count, const T* q, const T* k, const T* v, const T* out,
                       const float* lse, const T* dout, float* delta, T* dq, T* dk, T* dv) {
  const bool on_tensor_cores = OnTensorCores<T>(arguments.head_dim);
  if (query_count > 0) {
    const unsigned blocks = static_cast<unsigned>(query_count * arguments.query_heads);
    DW_LAUNCH(stream, DeltaKernel<T>, dim3(blocks), dim3(kDeltaThreads), 0, arguments, query_pieces,
              out, dout, delta);
    if (!on_tensor_cores) {
      PlainQueryGradients(stream, arguments, query_pieces, query_count, q, k, v, lse, dout, delta,
                          dq);
    }
  }
  if (key_count > 0 && !on_tensor_cores) {
    PlainKeyGradients(stream, arguments, key_pieces, key_count, q, k, v, lse, dout, delta, dk, dv);
  }
  if constexpr (std::is_same_v<T, Bf16>) {
    if (!on_tensor_cores) return;
    WithWidth(arguments.head_dim, [&](auto width) {
      if (query_count > 0) {
        using Shape = QueryGradients<decltype(width)::value>;
        const auto kernel = QueryGradientsKernel<decltype(width)::value>;
        AllowShared(kernel, Shape::kBytes);
        const unsigned blocks = static_cast<unsigned>(query_count * arguments.query_heads);
        DW_LAUNCH(stream, kernel, dim3(blocks), dim3(Shape::kThreads), Shape::kBytes, arguments,
                  query_pieces, q, k, v, lse, dout, delta, dq);
      }
      if (key_count > 0) {
        using Shape = KeyGradients<decltype(width)::value>;
        const auto kernel = KeyGradientsKernel<decltype(width)::value>;
        AllowShared(kernel, Shape::kBytes);
        const unsigned blocks =
            static_cast<unsigned>(key_count * arguments.kv_heads * Shape::kParts);
        DW_LAUNCH(stream, kernel, dim3(blocks), dim3(Shape::kThreads), Shape::kBytes, arguments,
                  key_pieces, q, k, v, lse, dout, delta, dk, dv);
      }
    });
  }
}

template void AttentionBackward(Stream, const AttentionArguments&, const Piece*, int64_t,
                                const Piece*, int64_t, const float*, const float*, const float*,
                                const float*, const float*, const float*, float*, float*, float*,
                                float*);
template void AttentionBackward(Stream, const AttentionArguments&, const Piece*, int64_t,
                                const Piece*, int64_t, const Bf16*, const Bf16*, const Bf16*,
                                const Bf16*, const float*, const Bf16*, float*, Bf16*, Bf16*,
                                Bf16*);

}  // namespace deltaworks::trainer::cuda

// Attention in f32 on ordinary cores, for f32 tensors and for heads that the tensor cores do not
// take. Correct before fast.
//
// Forward and the gradient of the queries: a block takes kRows queries of one head, a warp kEach of
// them, and reads the keys of their span kWarp at a time: in products with the queries a lane is a
// key, in sums over keys a lane is every 32nd column. The gradients of keys and values are the same
// with queries and keys exchanged.
//
// A query or key that another does not see is left out of its sums by selection.

#include "trainer/backend/cuda/kernels/attention.h"
#include "trainer/backend/cuda/kernels/attention_tile.h"

namespace deltaworks::trainer::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kEach = 4;
constexpr int kRows = kWarps * kEach;
constexpr int kColumns = 256 / kWarp;  // Of a lane, at most.

// Odd, so that a lane for each row reads from all banks.
__host__ __device__ inline int PlainPitch(int head_dim) { return head_dim | 1; }
int SharedBytes(int tiles, int head_dim) { return tiles * kRows * PlainPitch(head_dim) * 4; }

// kRows rows, of which `rows` exist; zeros in place of the others.
template <typename T>
__device__ void LoadRows(float* tile, const T* from, int64_t row_stride, int rows, int head_dim) {
  for (int i = threadIdx.x; i < kRows * head_dim; i += kThreads) {
    const int row = i / head_dim;
    const int column = i % head_dim;
    tile[row * PlainPitch(head_dim) + column] =
        row < rows ? ToFloat(from[row * row_stride + column]) : 0;
  }
}

// The product of each of the warp's rows with the lane's row of `tile`.
__device__ void Products(float (&d)[kEach], const float* rows, const float* tile, int head_dim) {
  const int pitch = PlainPitch(head_dim);
  const float* const right = tile + threadIdx.x % kWarp * pitch;
  DW_UNROLL
  for (int r = 0; r < kEach; ++r) d[r] = 0;
  for (int column = 0; column < head_dim; ++column) {
    DW_UNROLL
    for (int r = 0; r < kEach; ++r) d[r] = fmaf(rows[r * pitch + column], right[column], d[r]);
  }
}

// sums[r] += weights[r] of each lane times its row of `tile`, for lanes [begin[r], end[r]).
__device__ void AddWeighted(float (&sums)[kEach][kColumns], const float (&weights)[kEach],
                            const int (&begin)[kEach], const int (&end)[kEach], const float* tile,
                            int head_dim) {
  const int lane = threadIdx.x % kWarp;
  for (int i = 0; i < kWarp; ++i) {
    float weight[kEach];
    DW_UNROLL
    for (int r = 0; r < kEach; ++r) weight[r] = __shfl_sync(kAllLanes, weights[r], i);
    DW_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const int column = c * kWarp + lane;
      if (column >= head_dim) continue;
      const float value = tile[i * PlainPitch(head_dim) + column];
      DW_UNROLL
      for (int r = 0; r < kEach; ++r) {
        const float sum = fmaf(weight[r], value, sums[r][c]);
        if (begin[r] <= i && i < end[r]) sums[r][c] = sum;
      }
    }
  }
}

__device__ void Clear(float (&sums)[kEach][kColumns]) {
  DW_UNROLL
  for (int r = 0; r < kEach; ++r) {
    DW_UNROLL
    for (int c = 0; c < kColumns; ++c) sums[r][c] = 0;
  }
}

// to[column] = sums[column] * factor.
template <typename T>
__device__ void StoreRow(const float (&sums)[kColumns], float factor, int head_dim, T* to) {
  DW_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const int column = c * kWarp + threadIdx.x % kWarp;
    if (column < head_dim) to[column] = RoundTo<T>(sums[c] * factor);
  }
}

// The part of a piece that is a block's: pieces are larger than kRows.
struct Part {
  int head;
  Piece piece;
  int first;  // Of the block's queries or keys in the span.

  template <int kTile>
  static __device__ Part Of(const Piece* pieces, int heads) {
    constexpr int kParts = kTile / kRows;
    const int index = blockIdx.x / kParts;
    const Piece piece = pieces[index / heads];
    return {static_cast<int>(index % heads), piece,
            static_cast<int>(piece.tile * kTile + blockIdx.x % kParts * kRows)};
  }
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    PlainForwardKernel(AttentionArguments arguments, const Piece* pieces, const T* q, const T* k,
                       const T* v, T* out, float* lse) {
  const int heads = arguments.query_heads;
  const int head_dim = arguments.head_dim;
  const Part part = Part::Of<kQueryTile>(pieces, heads);
  const Places places(arguments, part.piece.span);
  const int rows = min(kRows, places.queries - part.first);
  if (rows <= 0) return;
  const int tile_size = kRows * PlainPitch(head_dim);
  float* const queries = DynamicShared<float>();
  float* const keys = queries + tile_size;
  float* const values = keys + tile_size;
  const int64_t q_stride = static_cast<int64_t>(heads) * head_dim;
  const int64_t k_stride = static_cast<int64_t>(arguments.kv_heads) * head_dim;
  const int64_t q_offset =
      (places.query_begin + part.first) * q_stride + static_cast<int64_t>(part.head) * head_dim;
  const int64_t k_offset = part.head / (heads / arguments.kv_heads) * head_dim;
  const int warp_first = static_cast<int>(threadIdx.x) / kWarp * kEach;
  const int lane = threadIdx.x % kWarp;

  LoadRows(queries, q + q_offset, q_stride, rows, head_dim);
  float sums[kEach][kColumns];
  Clear(sums);
  float largest[kEach], sum[kEach];
  DW_UNROLL
  for (int r = 0; r < kEach; ++r) {
    largest[r] = -INFINITY;
    sum[r] = 0;
  }
  const int seen_by_block = places.Seen(part.first + rows - 1);
  for (int begin = 0; begin < seen_by_block; begin += kWarp) {
    __syncthreads();
    const int64_t offset = k_offset + places.KeyRow(begin) * k_stride;
    LoadRows(keys, k + offset, k_stride, places.keys - begin, head_dim);
    LoadRows(values, v + offset, k_stride, places.keys - begin, head_dim);
    __syncthreads();
    float p[kEach];
    int from[kEach], seen[kEach];
    Products(p, queries + warp_first * PlainPitch(head_dim), keys, head_dim);
    DW_UNROLL
    for (int r = 0; r < kEach; ++r) {
      from[r] = 0;
      seen[r] = min(places.Seen(part.first + warp_first + r), places.keys) - begin;
      const float score = lane < seen[r] ? p[r] * arguments.scale : -INFINITY;
      const float top = fmaxf(largest[r], WarpMax(score));
      const float shift = top == -INFINITY ? 0 : top;
      const float correction = expf(largest[r] - shift);
      largest[r] = top;
      p[r] = expf(score - shift);
      sum[r] = sum[r] * correction + WarpSum(p[r]);
      DW_UNROLL
      for (int c = 0; c < kColumns; ++c) sums[r][c] *= correction;
    }
    AddWeighted(sums, p, from, seen, values, head_dim);
  }
  DW_UNROLL
  for (int r = 0; r < kEach; ++r) {
    const int row = warp_first + r;
    if (row >= rows) continue;
    StoreRow(sums[r], sum[r] == 0 ? 0 : 1 / sum[r], head_dim, out + q_offset + row * q_stride);
    if (lse != nullptr && lane == 0) {
      lse[static_cast<int64_t>(places.query_begin + part.first + row) * heads + part.head] =
          largest[r] + logf(sum[r]);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    PlainQueryGradientsKernel(AttentionArguments arguments, const Piece* pieces, const T* q,
                              const T* k, const T* v, const float* lse, const T* dout,
                              const float* delta, T* dq) {
  const int heads = arguments.query_heads;
  const int head_dim = arguments.head_dim;
  const Part part = Part::Of<kQueryTile>(pieces, heads);
  const Places places(arguments, part.piece.span);
  const int rows = min(kRows, places.queries - part.first);
  if (rows <= 0) return;
  const int tile_size = kRows * PlainPitch(head_dim);
  float* const queries = DynamicShared<float>();
  float* const gradients = queries + tile_size;  // Of the output.
  float* const keys = gradients + tile_size;
  float* const values = keys + tile_size;
  const int64_t q_stride = static_cast<int64_t>(heads) * head_dim;
  const int64_t k_stride = static_cast<int64_t>(arguments.kv_heads) * head_dim;
  const int64_t q_offset =
      (places.query_begin + part.first) * q_stride + static_cast<int64_t>(part.head) * head_dim;
  const int64_t k_offset =
      places.key_begin * k_stride + part.head / (heads / arguments.kv_heads) * head_dim;
  const int warp_first = static_cast<int>(threadIdx.x) / kWarp * kEach;

  LoadRows(queries, q + q_offset, q_stride, rows, head_dim);
  LoadRows(gradients, dout + q_offset, q_stride, rows, head_dim);
  float row_lse[kEach], row_delta[kEach];
  DW_UNROLL
  for (int r = 0; r < kEach; ++r) {
    const int row = places.query_begin + part.first + min(warp_first + r, rows - 1);
    row_lse[r] = lse[static_cast<int64_t>(row) * heads + part.head];
    row_delta[r] = delta[static_cast<int64_t>(row) * heads + part.head];
  }
  float sums[kEach][kColumns];
  Clear(sums);
  const int seen_by_block = places.Seen(part.first + rows - 1);
  for (int begin = 0; begin < seen_by_block; begin += kWarp) {
    __syncthreads();
    const int64_t offset = k_offset + begin * k_stride;
    LoadRows(keys, k + offset, k_stride, places.keys - begin, head_dim);
    LoadRows(values, v + offset, k_stride, places.keys - begin, head_dim);
    __syncthreads();
    float p[kEach], ds[kEach];
    int from[kEach], seen[kEach];
    Products(p, queries + warp_first * PlainPitch(head_dim), keys, head_dim);
    Products(ds, gradients + warp_first * PlainPitch(head_dim), values, head_dim);
    DW_UNROLL
    for (int r = 0; r < kEach; ++r) {
      from[r] = 0;
      seen[r] = min(places.Seen(part.first + warp_first + r), places.keys) - begin;
      ds[r] = expf(p[r] * arguments.scale - row_lse[r]) * (ds[r] - row_delta[r]);
    }
    AddWeighted(sums, ds, from, seen, keys, head_dim);
  }
  DW_UNROLL
  for (int r = 0; r < kEach; ++r) {
    const int row = warp_first + r;
    if (row >= rows) continue;
    StoreRow(sums[r], arguments.scale, head_dim, dq + q_offset + row * q_stride);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    PlainKeyGradientsKernel(AttentionArguments arguments, const Piece* pieces, const T* q,
                            const T* k, const T* v, const float* lse, const T* dout,
                            const float* delta, T* dk, T* dv) {
  const int heads = arguments.query_heads;
  const int group = heads / arguments.kv_heads;
  const int head_dim = arguments.head_dim;
  const Part part = Part::Of<kKeyTile>(pieces, arguments.kv_heads);
  const Places places(arguments, part.piece.span);
  const int rows = min(kRows, places.keys - part.first);
  if (rows <= 0) return;
  const int tile_size = kRows * PlainPitch(head_dim);
  float* const keys = DynamicShared<float>();
  float* const values = keys + tile_size;
  float* const queries = values + tile_size;
  float* const gradients = queries + tile_size;
  const int64_t q_stride = static_cast<int64_t>(heads) * head_dim;
  const int64_t k_stride = static_cast<int64_t>(arguments.kv_heads) * head_dim;
  const int64_t k_offset =
      (places.key_begin + part.first) * k_stride + static_cast<int64_t>(part.head) * head_dim;
  const int warp_first = static_cast<int>(threadIdx.x) / kWarp * kEach;
  const int lane = threadIdx.x % kWarp;

  LoadRows(keys, k + k_offset, k_stride, rows, head_dim);
  LoadRows(values, v + k_offset, k_stride, rows, head_dim);
  float key_sums[kEach][kColumns], value_sums[kEach][kColumns];
  Clear(key_sums);
  Clear(value_sums);
  for (int head = part.head * group; head < (part.head + 1) * group; ++head) {
    for (int begin = places.FirstQuery(part.first); begin < places.queries; begin += kWarp) {
      __syncthreads();
      const int64_t offset = (places.query_begin + begin) * q_stride + head * head_dim;
      LoadRows(queries, q + offset, q_stride, places.queries - begin, head_dim);
      LoadRows(gradients, dout + offset, q_stride, places.queries - begin, head_dim);
      const int64_t row = places.query_begin + min(begin + lane, places.queries - 1);
      const float row_lse = lse[row * heads + head];
      const float row_delta = delta[row * heads + head];
      __syncthreads();
      float p[kEach], ds[kEach];
      int from[kEach], to[kEach];
      Products(p, keys + warp_first * PlainPitch(head_dim), queries, head_dim);
      Products(ds, values + warp_first * PlainPitch(head_dim), gradients, head_dim);
      DW_UNROLL
      for (int r = 0; r < kEach; ++r) {
        from[r] = places.FirstQuery(part.first + warp_first + r) - begin;
        to[r] = places.queries - begin;
        p[r] = expf(p[r] * arguments.scale - row_lse);
        ds[r] = p[r] * (ds[r] - row_delta);
      }
      AddWeighted(value_sums, p, from, to, gradients, head_dim);
      AddWeighted(key_sums, ds, from, to, queries, head_dim);
    }
  }
  DW_UNROLL
  for (int r = 0; r < kEach; ++r) {
    const int row = warp_first + r;
    if (row >= rows) continue;
    StoreRow(key_sums[r], arguments.scale, head_dim, dk + k_offset + row * k_stride);
    StoreRow(value_sums[r], 1, head_dim, dv + k_offset + row * k_stride);
  }
}

}  // namespace

template <typename T>
void PlainForward(Stream stream, const AttentionArguments& arguments, const Piece* pieces,
                  int64_t count, const T* q, const T* k, const T* v, T* out, float* lse) {
  const auto kernel = PlainForwardKernel<T>;
  const int bytes = SharedBytes(3, arguments.head_dim);
  AllowShared(kernel, bytes);
  const int64_t blocks = count * arguments.query_heads * (kQueryTile / kRows);
  DW_LAUNCH(stream, kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), bytes, arguments,
            pieces, q, k, v, out, lse);
}

template <typename T>
void PlainQueryGradients(Stream stream, const AttentionArguments& arguments, const Piece* pieces,
                         int64_t count, const T* q, const T* k, const T* v, const float* lse,
                         const T* dout, const float* delta, T* dq) {
  const auto kernel = PlainQueryGradientsKernel<T>;
  const int bytes = SharedBytes(4, arguments.head_dim);
  AllowShared(kernel, bytes);
  const int64_t blocks = count * arguments.query_heads * (kQueryTile / kRows);
  DW_LAUNCH(stream, kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), bytes, arguments,
            pieces, q, k, v, lse, dout, delta, dq);
}

template <typename T>
void PlainKeyGradients(Stream stream, const AttentionArguments& arguments, const Piece* pieces,
                       int64_t count, const T* q, const T* k, const T* v, const float* lse,
                       const T* dout, const float* delta, T* dk, T* dv) {
  const auto kernel = PlainKeyGradientsKernel<T>;
  const int bytes = SharedBytes(4, arguments.head_dim);
  AllowShared(kernel, bytes);
  const int64_t blocks = count * arguments.kv_heads * (kKeyTile / kRows);
  DW_LAUNCH(stream, kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), bytes, arguments,
            pieces, q, k, v, lse, dout, delta, dk, dv);
}

#define DW_PLAIN_ATTENTION(T)                                                                    \
  template void PlainForward(Stream, const AttentionArguments&, const Piece*, int64_t, const T*, \
                             const T*, const T*, T*, float*);                                    \
  template void PlainQueryGradients(Stream, const AttentionArguments&, const Piece*, int64_t,    \
                                    const T*, const T*, const T*, const float*, const T*,        \
                                    const float*, T*);                                           \
  template void PlainKeyGradients(Stream, const AttentionArguments&, const Piece*, int64_t,      \
                                  const T*, const T*, const T*, const float*, const T*,          \
                                  const float*, T*, T*);
DW_PLAIN_ATTENTION(float)
DW_PLAIN_ATTENTION(Bf16)
#undef DW_PLAIN_ATTENTION

}  // namespace deltaworks::trainer::cuda

// Attention of single queries over long keys, on ordinary cores: what takes the time is to read
// keys and values once, and many small blocks at a time keep the memory busy.
//
// A block takes one query, kHeads query heads of one kv head, and one chunk of keys, and leaves the
// chunk's largest score, sum of exponentials and weighted sum of values, not yet divided, in
// scratch. A second kernel combines the chunks that a query sees in their order.

#include "trainer/backend/cuda/kernels/attention.h"
#include "trainer/backend/cuda/kernels/attention_tile.h"

namespace deltaworks::trainer::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kKeys = 64;  // In shared memory at a time.
constexpr int kHeads = 8;
constexpr int kColumns = 256 / kThreads;     // Of a thread, at most.
constexpr int kHalves = kThreads / kKeys;    // Threads to a key.
constexpr int kOwnHeads = kHeads / kHalves;  // Of each of them.
constexpr int kOwnSums = kHeads / kWarps;    // Heads whose softmax is a warp's.
static_assert(kKeys == 2 * kWarp && kDecodeChunk % kKeys == 0 && kKeyTile % kKeys == 0);

// A row of keys or values in shared memory is units of 16 bytes, an odd number of them, so that a
// thread for each key reads from all banks.
template <typename T>
struct Row {
  static constexpr int kPer = 16 / sizeof(T);
  int units;  // With elements in them; zeros behind head_dim.
  int pitch;  // In elements.

  __host__ __device__ explicit Row(int head_dim)
      : units((head_dim + kPer - 1) / kPer), pitch((units | 1) * kPer) {}
};

template <typename T>
int SharedBytes(int head_dim) {
  const Row<T> row(head_dim);
  return 2 * kKeys * row.pitch * static_cast<int>(sizeof(T)) +
         (kHeads * row.units * Row<T>::kPer + kHeads * kKeys + kHeads) * 4;
}

// Begins to copy kKeys rows, of which `rows` exist; zeros in place of the others.
template <typename T>
__device__ __forceinline__ void CopyRows(T* tile, const T* from, int64_t row_stride, int rows,
                                         int head_dim) {
  const Row<T> shape(head_dim);
  if (head_dim % Row<T>::kPer == 0) {
    const int across = shape.units <= 4 ? 4 : shape.units <= 8 ? 8 : shape.units <= 16 ? 16 : 32;
    for (int row = threadIdx.x / across; row < kKeys; row += kThreads / across) {
      for (int unit = threadIdx.x % across; unit < shape.units; unit += across) {
        const int column = unit * Row<T>::kPer;
        const bool valid = row < rows;
        CopyAsync16(tile + row * shape.pitch + column,
                    from + (valid ? row * row_stride + column : 0), valid);
      }
    }
  } else {
    const int columns = shape.units * Row<T>::kPer;
    for (int i = threadIdx.x; i < kKeys * columns; i += kThreads) {
      const int row = i / columns;
      const int column = i % columns;
      tile[row * shape.pitch + column] =
          row < rows && column < head_dim ? from[row * row_stride + column] : T{};
    }
  }
}

__device__ __forceinline__ void Widen(float (&to)[8], const uint4& unit, Bf16) {
  const uint32_t words[4] = {unit.x, unit.y, unit.z, unit.w};
  DW_UNROLL
  for (int i = 0; i < 4; ++i) {
    to[2 * i] = FloatOf(words[i] << 16);
    to[2 * i + 1] = FloatOf(words[i] & 0xffff0000u);
  }
}
__device__ __forceinline__ void Widen(float (&to)[4], const uint4& unit, float) {
  to[0] = FloatOf(unit.x);
  to[1] = FloatOf(unit.y);
  to[2] = FloatOf(unit.z);
  to[3] = FloatOf(unit.w);
}

// Of one query, head and chunk: head_dim sums, the largest score, the sum of exponentials.
__host__ __device__ inline int64_t PartialSize(int64_t head_dim) { return head_dim + 2; }

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ChunkKernel(AttentionArguments arguments, const Piece* pieces, int chunks, const T* q,
                const T* k, const T* v, float* scratch) {
  constexpr int kPer = Row<T>::kPer;
  const int head_dim = arguments.head_dim;
  const int group = arguments.query_heads / arguments.kv_heads;
  const int batches = (group + kHeads - 1) / kHeads;
  const int chunk = blockIdx.x % chunks;
  const int batch = blockIdx.x / chunks % batches;
  const int kv_head = blockIdx.x / chunks / batches % arguments.kv_heads;
  const int64_t item = blockIdx.x / chunks / batches / arguments.kv_heads;
  const Piece piece = pieces[item];
  const Places places(arguments, piece.span);
  const int begin = chunk * kDecodeChunk;
  const int end = min(begin + kDecodeChunk, min(places.Seen(piece.tile), places.keys));
  if (begin >= end) return;
  const int first_head = kv_head * group + batch * kHeads;
  const int heads = min(kHeads, group - batch * kHeads);

  const Row<T> row(head_dim);
  const int width = row.units * kPer;
  T* const keys = DynamicShared<T>();
  T* const values = keys + kKeys * row.pitch;
  float* const query = reinterpret_cast<float*>(values + kKeys * row.pitch);
  float* const p = query + kHeads * width;
  float* const corrections = p + kHeads * kKeys;

  const int64_t k_stride = static_cast<int64_t>(arguments.kv_heads) * head_dim;
  k += static_cast<int64_t>(kv_head) * head_dim;
  v += static_cast<int64_t>(kv_head) * head_dim;
  q +=
      (static_cast<int64_t>(places.query_begin + piece.tile) * arguments.query_heads + first_head) *
      head_dim;
  for (int i = threadIdx.x; i < heads * width; i += kThreads) {
    const int column = i % width;
    query[i] = column < head_dim ? ToFloat(q[i / width * head_dim + column]) : 0;
  }

  const int thread = threadIdx.x;
  const int warp = thread / kWarp;
  const int lane = thread % kWarp;
  float largest[kOwnSums], sum[kOwnSums];  // Of heads warp, warp + kWarps...
  DW_UNROLL
  for (int i = 0; i < kOwnSums; ++i) {
    largest[i] = -INFINITY;
    sum[i] = 0;
  }
  float sums[kHeads][kColumns] = {};
  for (int first = begin; first < end; first += kKeys) {
    const int count = min(kKeys, end - first);
    const int64_t offset = places.KeyRow(first) * k_stride;
    __syncthreads();
    CopyRows(keys, k + offset, k_stride, count, head_dim);
    CommitCopies();
    CopyRows(values, v + offset, k_stride, count, head_dim);
    CommitCopies();
    WaitForCopies<1>();
    __syncthreads();

    float scores[kOwnHeads] = {};
    const T* const key = keys + thread % kKeys * row.pitch;
    const int half = thread / kKeys;  // The same for a warp.
    for (int unit = 0; unit < row.units; ++unit) {
      float wide[kPer];
      Widen(wide, *reinterpret_cast<const uint4*>(key + unit * kPer), T{});
      DW_UNROLL
      for (int i = 0; i < kOwnHeads; ++i) {
        if (half + i * kHalves >= heads) continue;
        const float4* const factors =
            reinterpret_cast<const float4*>(query + (half + i * kHalves) * width + unit * kPer);
        DW_UNROLL
        for (int e = 0; e < kPer; e += 4) {
          const float4 four = factors[e / 4];
          scores[i] = fmaf(four.x, wide[e], scores[i]);
          scores[i] = fmaf(four.y, wide[e + 1], scores[i]);
          scores[i] = fmaf(four.z, wide[e + 2], scores[i]);
          scores[i] = fmaf(four.w, wide[e + 3], scores[i]);
        }
      }
    }
    DW_UNROLL
    for (int i = 0; i < kOwnHeads; ++i) {
      p[(half + i * kHalves) * kKeys + thread % kKeys] =
          thread % kKeys < count ? scores[i] * arguments.scale : -INFINITY;
    }
    __syncthreads();

    DW_UNROLL
    for (int i = 0; i < kOwnSums; ++i) {
      const int head = warp + i * kWarps;
      float* const own = p + head * kKeys + lane;
      const float top = fmaxf(largest[i], WarpMax(fmaxf(own[0], own[kWarp])));
      const float shift = top == -INFINITY ? 0 : top;
      const float low = expf(own[0] - shift), high = expf(own[kWarp] - shift);
      const float correction = expf(largest[i] - shift);
      own[0] = low;
      own[kWarp] = high;
      sum[i] = sum[i] * correction + WarpSum(low + high);
      largest[i] = top;
      if (lane == 0) corrections[head] = correction;
    }
    WaitForCopies<0>();
    __syncthreads();

    DW_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const int column = c * kThreads + thread;
      if (column >= head_dim) continue;
      DW_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        if (h < heads) sums[h][c] *= corrections[h];
      }
      // Rows behind `count` are zeros, and so is p.
      for (int i = 0; i < count; i += 4) {
        const T* const value = values + i * row.pitch + column;
        const float four[4] = {ToFloat(value[0]), ToFloat(value[row.pitch]),
                               ToFloat(value[2 * row.pitch]), ToFloat(value[3 * row.pitch])};
        DW_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          if (h >= heads) continue;
          const float4 weights = *reinterpret_cast<const float4*>(p + h * kKeys + i);
          sums[h][c] = fmaf(weights.x, four[0], sums[h][c]);
          sums[h][c] = fmaf(weights.y, four[1], sums[h][c]);
          sums[h][c] = fmaf(weights.z, four[2], sums[h][c]);
          sums[h][c] = fmaf(weights.w, four[3], sums[h][c]);
        }
      }
    }
  }

  const int64_t size = PartialSize(head_dim);
  float* const partial =
      scratch + ((item * arguments.query_heads + first_head) * chunks + chunk) * size;
  DW_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    if (h >= heads) continue;
    DW_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const int column = c * kThreads + thread;
      if (column < head_dim) partial[h * chunks * size + column] = sums[h][c];
    }
  }
  DW_UNROLL
  for (int i = 0; i < kOwnSums; ++i) {
    const int head = warp + i * kWarps;
    if (head >= heads || lane != 0) continue;
    partial[head * chunks * size + head_dim] = largest[i];
    partial[head * chunks * size + head_dim + 1] = sum[i];
  }
}

// A block for each query and head.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    CombineKernel(AttentionArguments arguments, const Piece* pieces, int chunks,
                  const float* scratch, T* out, float* lse) {
  const int head_dim = arguments.head_dim;
  const int head = blockIdx.x % arguments.query_heads;
  const Piece piece = pieces[blockIdx.x / arguments.query_heads];
  const Places places(arguments, piece.span);
  const int seen = max(min(places.Seen(piece.tile), places.keys), 0);
  const int count = (seen + kDecodeChunk - 1) / kDecodeChunk;
  const int64_t size = PartialSize(head_dim);
  const float* const partial = scratch + static_cast<int64_t>(blockIdx.x) * chunks * size;

  float largest = -INFINITY;
  for (int chunk = threadIdx.x % kWarp; chunk < count; chunk += kWarp) {
    largest = fmaxf(largest, partial[chunk * size + head_dim]);
  }
  largest = WarpMax(largest);
  const float shift = largest == -INFINITY ? 0 : largest;
  float sum = 0;
  float sums[kColumns] = {};
  for (int chunk = 0; chunk < count; ++chunk) {
    const float* const from = partial + chunk * size;
    const float weight = expf(from[head_dim] - shift);
    sum = fmaf(from[head_dim + 1], weight, sum);
    DW_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const int column = c * kThreads + threadIdx.x;
      if (column < head_dim) sums[c] = fmaf(from[column], weight, sums[c]);
    }
  }
  const float factor = sum == 0 ? 0 : 1 / sum;
  const int64_t number =
      static_cast<int64_t>(places.query_begin + piece.tile) * arguments.query_heads + head;
  DW_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const int column = c * kThreads + threadIdx.x;
    if (column < head_dim) out[number * head_dim + column] = RoundTo<T>(sums[c] * factor);
  }
  if (lse != nullptr && threadIdx.x == 0) lse[number] = largest + logf(sum);
}

int64_t Chunks(int64_t longest_keys) { return (longest_keys + kDecodeChunk - 1) / kDecodeChunk; }

}  // namespace

int64_t DecodeScratchBytes(int64_t queries, int64_t longest_keys, int64_t query_heads,
                           int64_t head_dim) {
  return queries * query_heads * Chunks(longest_keys) * PartialSize(head_dim) *
         static_cast<int64_t>(sizeof(float));
}

template <typename T>
void AttentionDecode(Stream stream, const AttentionArguments& arguments, const Piece* queries,
                     int64_t count, int64_t longest_keys, const T* q, const T* k, const T* v,
                     T* out, float* lse, float* scratch) {
  if (count == 0) return;
  const int chunks = static_cast<int>(Chunks(longest_keys));
  const int batches = (arguments.query_heads / arguments.kv_heads + kHeads - 1) / kHeads;
  const int64_t blocks = count * arguments.kv_heads * batches * chunks;
  if (blocks > 0) {
    const auto kernel = ChunkKernel<T>;
    const int bytes = SharedBytes<T>(arguments.head_dim);
    AllowShared(kernel, bytes);
    DW_LAUNCH(stream, kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), bytes, arguments,
              queries, chunks, q, k, v, scratch);
  }
  DW_LAUNCH(stream, CombineKernel<T>, dim3(static_cast<unsigned>(count * arguments.query_heads)),
            dim3(kThreads), 0, arguments, queries, chunks, scratch, out, lse);
}

template void AttentionDecode(Stream, const AttentionArguments&, const Piece*, int64_t, int64_t,
                              const float*, const float*, const float*, float*, float*, float*);
template void AttentionDecode(Stream, const AttentionArguments&, const Piece*, int64_t, int64_t,
                              const Bf16*, const Bf16*, const Bf16*, Bf16*, float*, float*);

}  // namespace deltaworks::trainer::cuda

#include "trainer/backend/cuda/kernels/adapters.h"
#include "trainer/backend/cuda/kernels/octets.h"

namespace deltaworks::trainer::cuda {
namespace {

constexpr int kWarpsPerBlock = 4;

// The segment of a row of the batch, or nullptr.
__device__ __forceinline__ const SegmentRows* SegmentOf(const AdapterTable& table, int64_t row) {
  int low = 0, high = table.segment_count;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (table.segments[middle].row_end <= row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == table.segment_count || table.segments[low].row_begin > row) return nullptr;
  return table.segments + low;
}

// philox.h's Philox4x32-10 of DropoutWords().
__device__ __forceinline__ void DropoutWords(const SegmentRows& segment, uint32_t token,
                                             uint32_t quad, uint32_t (&words)[4]) {
  uint32_t key0 = segment.seed_low, key1 = segment.seed_high;
  words[0] = segment.step, words[1] = segment.site, words[2] = token, words[3] = quad;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * words[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * words[2];
    const uint32_t next0 = static_cast<uint32_t>(product1 >> 32) ^ words[1] ^ key0;
    const uint32_t next2 = static_cast<uint32_t>(product0 >> 32) ^ words[3] ^ key1;
    words[1] = static_cast<uint32_t>(product1);
    words[3] = static_cast<uint32_t>(product0);
    words[0] = next0;
    words[2] = next2;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

// The octet of features from `column` on, each kept and scaled, or 0.
__device__ __forceinline__ void DropOctet(const SegmentRows& segment, int64_t row, int64_t column,
                                          float (&values)[kOctet]) {
  const uint32_t token = segment.token + static_cast<uint32_t>(row - segment.row_begin);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t words[4];
    DropoutWords(segment, token, static_cast<uint32_t>(column / 4 + half), words);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float& value = values[4 * half + i];
      value = words[i] >= segment.threshold ? value * segment.keep_scale : 0.0f;
    }
  }
}

template <typename T>
__global__ void CopyInputKernel(AdapterTable table, int64_t row_begin, const T* x, int64_t x_row,
                                int64_t columns, int64_t columns_filled, bool drop, T* to,
                                int64_t to_row, bool aligned) {
  const int64_t row = blockIdx.x, column = RowOctetBegin();
  if (column >= columns_filled) return;
  float values[kOctet];
  LoadOctet(x + row * x_row + column, columns - column, aligned, values);
  if (drop) {
    const SegmentRows* segment = SegmentOf(table, row_begin + row);
    if (segment != nullptr && segment->threshold > 0) {
      DropOctet(*segment, row_begin + row, column, values);
    }
  }
  StoreOctet(values, columns_filled - column, aligned, to + row * to_row + column);
}

__device__ __forceinline__ int64_t WarpRow() {
  return static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / kWarp;
}

// One warp takes one row: sums become hidden values, if there are any, and hidden values their
// columns of `to`, if there is one.
template <typename T>
__global__ void HiddenKernel(AdapterTable table, RowRange range, int linear, const float* sums,
                             int64_t sums_row, T* hidden, int64_t hidden_row, Rows rows,
                             int64_t width, T* to, int64_t to_row) {
  const int64_t row = WarpRow();
  if (row >= range.rows) return;
  const int lane = threadIdx.x % kWarp;
  if (to != nullptr) {
    for (int64_t i = lane; i < width; i += kWarp) to[row * to_row + i] = RoundTo<T>(0.0f);
    __syncwarp();
  }
  const SegmentRows* segment = SegmentOf(table, range.begin + row);
  if (segment == nullptr) return;
  const bool placed = to != nullptr && (rows == Rows::kAll ||
                                        (segment->threshold > 0) == (rows == Rows::kWithDropout));
  for (int s = segment->slice_begin; s < segment->slice_end; ++s) {
    const Slice& slice = table.slices[s];
    if (linear >= 0 && slice.linear != linear) continue;
    const int64_t column = linear < 0 ? slice.group_column : slice.linear_column;
    const bool sick = placed && table.flags[s] != 0;
    T* own = hidden + row * hidden_row + slice.hidden_column;
    for (int r = lane; r < slice.rank; r += kWarp) {
      T value;
      if (sums != nullptr) {
        value = RoundTo<T>(slice.scale * sums[row * sums_row + column + r]);
        own[r] = value;
      } else {
        value = own[r];
      }
      if (placed) to[row * to_row + column + r] = sick ? RoundTo<T>(FloatOf(0x7fc00000u)) : value;
    }
  }
}

// The value, or 0 and a flag. Threads that flag write the same number.
template <typename T>
__device__ __forceinline__ T FiniteOrFlagged(T value, int32_t* flag) {
  const uint32_t bits = BitsOf(ToFloat(value));
  if ((bits & 0x7f800000u) != 0x7f800000u) return value;
  *flag = 1;
  return RoundTo<T>(0.0f);
}

template <typename T>
__global__ void PlaceBKernel(AdapterTable table, const Column* columns, int64_t width, int64_t n,
                             int64_t n_filled, T* to, int64_t to_row) {
  const int64_t count = n_filled * width;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int64_t row = i / width, column = i % width;
    const Column place = columns[column];
    T value = RoundTo<T>(0.0f);
    if (place.slice >= 0 && row < n) {
      const Slice& slice = table.slices[place.slice];
      const T* b = static_cast<const T*>(slice.b);
      value = FiniteOrFlagged(b[row * slice.rank + place.rank_index], table.flags + place.slice);
    }
    to[row * to_row + column] = value;
  }
}

template <typename T>
__global__ void PlaceAKernel(AdapterTable table, const Column* columns, int64_t k, int64_t k_filled,
                             T* to, int64_t to_row) {
  const int64_t row = blockIdx.x;
  const Column place = columns[row];
  const int64_t end = (static_cast<int64_t>(blockIdx.y) + 1) * kRowPieceColumns;
  for (int64_t column = static_cast<int64_t>(blockIdx.y) * kRowPieceColumns + threadIdx.x;
       column < k_filled && column < end; column += blockDim.x) {
    T value = RoundTo<T>(0.0f);
    if (place.slice >= 0 && column < k) {
      const T* a = static_cast<const T*>(table.slices[place.slice].a);
      value = FiniteOrFlagged(a[place.rank_index * k + column], table.flags + place.slice);
    }
    to[row * to_row + column] = value;
  }
}

template <typename T>
__global__ void FinishInputGradientKernel(AdapterTable table, int64_t row_begin, const float* base,
                                          int64_t base_row, const float* adapters,
                                          int64_t adapters_row, int64_t columns, T* dx,
                                          int64_t dx_row, bool aligned) {
  const int64_t row = blockIdx.x, column = RowOctetBegin();
  if (column >= columns) return;
  const int64_t count = columns - column;
  float values[kOctet];
  LoadOctet(base + row * base_row + column, count, aligned, values);
  const SegmentRows* segment = adapters == nullptr ? nullptr : SegmentOf(table, row_begin + row);
  if (segment != nullptr && segment->threshold > 0) {
    float own[kOctet];
    LoadOctet(adapters + row * adapters_row + column, count, aligned, own);
    DropOctet(*segment, row_begin + row, column, own);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) values[i] += own[i];
  }
  StoreOctet(values, count, aligned, dx + row * dx_row + column);
}

template <typename T>
__device__ __forceinline__ bool IsAlignedOnDevice(const T* data, int64_t row) {
  return (reinterpret_cast<uintptr_t>(data) | static_cast<uintptr_t>(row) * sizeof(T)) % 16 == 0;
}

// One warp takes one hidden value of one row.
template <typename T>
__global__ void DecodeHiddenKernel(AdapterTable table, int64_t row_begin, const T* x, int64_t x_row,
                                   int64_t k, T* hidden, int64_t hidden_row) {
  const int64_t row = blockIdx.x;
  const int lane = threadIdx.x % kWarp;
  const int place = static_cast<int>(blockIdx.y) * kWarpsPerBlock + threadIdx.x / kWarp;
  const SegmentRows* segment = SegmentOf(table, row_begin + row);
  if (segment == nullptr) return;
  int s = segment->slice_begin;
  while (s < segment->slice_end && place >= table.slices[s].hidden_column + table.slices[s].rank) {
    ++s;
  }
  if (s == segment->slice_end) return;
  const Slice& slice = table.slices[s];
  const T* from = x + row * x_row;
  const T* a = static_cast<const T*>(slice.a) + (place - slice.hidden_column) * k;
  const bool x_aligned = IsAlignedOnDevice(x, x_row);
  const bool a_aligned = IsAlignedOnDevice(static_cast<const T*>(slice.a), k);
  float sum = 0;
  for (int64_t column = lane * kOctet; column < k; column += kWarp * kOctet) {
    float values[kOctet], factors[kOctet];
    LoadOctet(from + column, k - column, x_aligned, values);
    LoadOctet(a + column, k - column, a_aligned, factors);
    if (segment->threshold > 0) DropOctet(*segment, row_begin + row, column, values);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) sum += values[i] * factors[i];
  }
  sum = WarpSum(sum);
  if (lane == 0) hidden[row * hidden_row + place] = RoundTo<T>(slice.scale * sum);
}

template <typename T>
__global__ void DecodeOutputKernel(AdapterTable table, int64_t row_begin, int linear,
                                   const float* base, int64_t base_row, const T* hidden,
                                   int64_t hidden_row, int64_t n, T* y, int64_t y_row) {
  const int64_t row = blockIdx.x;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (column >= n) return;
  float sum = base[row * base_row + column];
  const SegmentRows* segment = SegmentOf(table, row_begin + row);
  for (int s = segment == nullptr ? 0 : segment->slice_begin;
       segment != nullptr && s < segment->slice_end; ++s) {
    const Slice& slice = table.slices[s];
    if (slice.linear != linear) continue;
    const T* own = hidden + row * hidden_row + slice.hidden_column;
    const T* b = static_cast<const T*>(slice.b) + column * slice.rank;
    float part = 0;
    for (int r = 0; r < slice.rank; ++r) part += ToFloat(own[r]) * ToFloat(b[r]);
    sum += part;
  }
  y[row * y_row + column] = RoundTo<T>(sum);
}

unsigned WarpRowBlocks(int64_t rows) {
  return static_cast<unsigned>(CeilDiv(rows, kWarpsPerBlock));
}

}  // namespace

template <typename T>
void CopyInput(Stream stream, const AdapterTable& table, RowRange range, const T* x, int64_t x_row,
               int64_t columns, int64_t columns_filled, bool drop, T* to, int64_t to_row) {
  if (range.rows == 0) return;
  DW_LAUNCH(stream, CopyInputKernel<T>, RowGrid(range.rows, columns_filled), kRowThreads, 0, table,
            range.begin, x, x_row, columns, columns_filled, drop, to, to_row,
            IsAligned(x, x_row) && IsAligned(to, to_row));
}

template <typename T>
void SelectHidden(Stream stream, const AdapterTable& table, RowRange range, int linear,
                  const float* sums, int64_t sums_row, T* hidden, int64_t hidden_row, Rows rows,
                  int64_t width, T* to, int64_t to_row) {
  if (range.rows == 0) return;
  DW_LAUNCH(stream, HiddenKernel<T>, WarpRowBlocks(range.rows), kWarpsPerBlock * kWarp, 0, table,
            range, linear, sums, sums_row, hidden, hidden_row, rows, width, to, to_row);
}

template <typename T>
void PlaceHidden(Stream stream, const AdapterTable& table, RowRange range, int linear, Rows rows,
                 const T* hidden, int64_t hidden_row, int64_t width, T* to, int64_t to_row) {
  if (range.rows == 0 || width == 0) return;
  // Without sums, `hidden` is read only.
  DW_LAUNCH(stream, HiddenKernel<T>, WarpRowBlocks(range.rows), kWarpsPerBlock * kWarp, 0, table,
            range, linear, static_cast<const float*>(nullptr), int64_t{0}, const_cast<T*>(hidden),
            hidden_row, rows, width, to, to_row);
}

template <typename T>
void PlaceB(Stream stream, const AdapterTable& table, const Column* columns, int64_t width,
            int64_t n, int64_t n_filled, T* to, int64_t to_row) {
  if (width == 0) return;
  const int64_t blocks = CeilDiv(n_filled * width, 4 * kElementThreads);
  DW_LAUNCH(stream, PlaceBKernel<T>, static_cast<unsigned>(blocks), kElementThreads, 0, table,
            columns, width, n, n_filled, to, to_row);
}

template <typename T>
void PlaceA(Stream stream, const AdapterTable& table, const Column* columns, int64_t width,
            int64_t k, int64_t k_filled, T* to, int64_t to_row) {
  if (width == 0) return;
  DW_LAUNCH(stream, PlaceAKernel<T>, RowGrid(width, k_filled), kElementThreads, 0, table, columns,
            k, k_filled, to, to_row);
}

template <typename T>
void DecodeHidden(Stream stream, const AdapterTable& table, RowRange range, const T* x,
                  int64_t x_row, int64_t k, int64_t hidden_width, T* hidden, int64_t hidden_row) {
  if (range.rows == 0 || hidden_width == 0) return;
  const dim3 grid(static_cast<unsigned>(range.rows), WarpRowBlocks(hidden_width));
  DW_LAUNCH(stream, DecodeHiddenKernel<T>, grid, kWarpsPerBlock * kWarp, 0, table, range.begin, x,
            x_row, k, hidden, hidden_row);
}

template <typename T>
void DecodeOutput(Stream stream, const AdapterTable& table, RowRange range, int linear,
                  const float* base, int64_t base_row, const T* hidden, int64_t hidden_row,
                  int64_t n, T* y, int64_t y_row) {
  if (range.rows == 0 || n == 0) return;
  const dim3 grid(static_cast<unsigned>(range.rows),
                  static_cast<unsigned>(CeilDiv(n, kElementThreads)));
  DW_LAUNCH(stream, DecodeOutputKernel<T>, grid, kElementThreads, 0, table, range.begin, linear,
            base, base_row, hidden, hidden_row, n, y, y_row);
}

template <typename T>
void FinishInputGradient(Stream stream, const AdapterTable& table, RowRange range,
                         const float* base, int64_t base_row, const float* adapters,
                         int64_t adapters_row, int64_t columns, T* dx, int64_t dx_row) {
  if (range.rows == 0) return;
  const bool aligned = IsAligned(base, base_row) && IsAligned(dx, dx_row) &&
                       (adapters == nullptr || IsAligned(adapters, adapters_row));
  DW_LAUNCH(stream, FinishInputGradientKernel<T>, RowGrid(range.rows, columns), kRowThreads, 0,
            table, range.begin, base, base_row, adapters, adapters_row, columns, dx, dx_row,
            aligned);
}

#define DW_INSTANTIATE(T)                                                                         \
  template void CopyInput(Stream, const AdapterTable&, RowRange, const T*, int64_t, int64_t,      \
                          int64_t, bool, T*, int64_t);                                            \
  template void SelectHidden(Stream, const AdapterTable&, RowRange, int, const float*, int64_t,   \
                             T*, int64_t, Rows, int64_t, T*, int64_t);                            \
  template void PlaceHidden(Stream, const AdapterTable&, RowRange, int, Rows, const T*, int64_t,  \
                            int64_t, T*, int64_t);                                                \
  template void PlaceB(Stream, const AdapterTable&, const Column*, int64_t, int64_t, int64_t, T*, \
                       int64_t);                                                                  \
  template void PlaceA(Stream, const AdapterTable&, const Column*, int64_t, int64_t, int64_t, T*, \
                       int64_t);                                                                  \
  template void DecodeHidden(Stream, const AdapterTable&, RowRange, const T*, int64_t, int64_t,   \
                             int64_t, T*, int64_t);                                               \
  template void DecodeOutput(Stream, const AdapterTable&, RowRange, int, const float*, int64_t,   \
                             const T*, int64_t, int64_t, T*, int64_t);                            \
  template void FinishInputGradient(Stream, const AdapterTable&, RowRange, const float*, int64_t, \
                                    const float*, int64_t, int64_t, T*, int64_t)
DW_INSTANTIATE(float);
DW_INSTANTIATE(Bf16);
#undef DW_INSTANTIATE

}  // namespace deltaworks::trainer::cuda

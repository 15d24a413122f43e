#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/cuda/kernels/octets.h"

namespace deltaworks::trainer::cuda {
namespace {

template <typename T>
__global__ void EmbedKernel(const T* table, int64_t table_row, int64_t vocabulary,
                            const int32_t* ids, int64_t width, float* out, bool aligned) {
  const int64_t row = blockIdx.x, column = RowOctetBegin();
  if (column >= width) return;
  const int64_t id = ids[row];
  const int64_t count = width - column;
  float values[kOctet];
  if (id < 0 || id >= vocabulary) {
    for (float& value : values) value = FloatOf(0x7fc00000u);
  } else {
    LoadOctet(table + id * table_row + column, count, aligned, values);
  }
  StoreOctet(values, count, aligned, out + row * width + column);
}

template <typename T>
__global__ void AddResidualKernel(const float* x, const T* y, int64_t count, float* out,
                                  bool aligned) {
  const int64_t begin = OctetBegin();
  if (begin >= count) return;
  float a[kOctet], b[kOctet];
  LoadOctet(x + begin, count - begin, aligned, a);
  LoadOctet(y + begin, count - begin, aligned, b);
#pragma unroll
  for (int i = 0; i < kOctet; ++i) a[i] += b[i];
  StoreOctet(a, count - begin, aligned, out + begin);
}

template <typename T>
__global__ void RoundKernel(const float* x, int64_t count, T* y, bool aligned) {
  const int64_t begin = OctetBegin();
  if (begin >= count) return;
  float values[kOctet];
  LoadOctet(x + begin, count - begin, aligned, values);
  StoreOctet(values, count - begin, aligned, y + begin);
}

// One thread rotates an octet of pairs of one head.
template <typename T>
__global__ void RopeKernel(T* x, int64_t octets, int64_t heads, int64_t half,
                           const int32_t* positions, const float* cosines, const float* sines,
                           float sine_sign, bool aligned) {
  const int64_t octet = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (octet >= octets) return;
  const int64_t of_head = (half + kOctet - 1) / kOctet;
  const int64_t i = octet % of_head * kOctet, head = octet / of_head % heads;
  const int64_t row = octet / of_head / heads, count = half - i;
  const int64_t place = positions[row] * half + i;
  T* first = x + (row * heads + head) * 2 * half + i;
  float cosine[kOctet], sine[kOctet], a[kOctet], b[kOctet];
  LoadOctet(cosines + place, count, aligned, cosine);
  LoadOctet(sines + place, count, aligned, sine);
  LoadOctet(first, count, aligned, a);
  LoadOctet(first + half, count, aligned, b);
#pragma unroll
  for (int j = 0; j < kOctet; ++j) {
    const float signed_sine = sine_sign * sine[j], old = a[j];
    a[j] = old * cosine[j] - b[j] * signed_sine;
    b[j] = b[j] * cosine[j] + old * signed_sine;
  }
  StoreOctet(a, count, aligned, first);
  StoreOctet(b, count, aligned, first + half);
}

template <typename T>
__global__ void SwigluForwardKernel(const T* gate, const T* up, int64_t count, T* out,
                                    bool aligned) {
  const int64_t begin = OctetBegin();
  if (begin >= count) return;
  float g[kOctet], u[kOctet];
  LoadOctet(gate + begin, count - begin, aligned, g);
  LoadOctet(up + begin, count - begin, aligned, u);
#pragma unroll
  for (int i = 0; i < kOctet; ++i) g[i] = g[i] / (1.0f + expf(-g[i])) * u[i];
  StoreOctet(g, count - begin, aligned, out + begin);
}

template <typename T>
__global__ void SwigluBackwardKernel(const T* gate, const T* up, const T* dout, int64_t count,
                                     T* dgate, T* dup, bool aligned) {
  const int64_t begin = OctetBegin();
  if (begin >= count) return;
  float g[kOctet], u[kOctet], d[kOctet];
  LoadOctet(gate + begin, count - begin, aligned, g);
  LoadOctet(up + begin, count - begin, aligned, u);
  LoadOctet(dout + begin, count - begin, aligned, d);
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    const float sigmoid = 1.0f / (1.0f + expf(-g[i]));
    const float slope = sigmoid * (1.0f + g[i] * (1.0f - sigmoid));
    const float dg = d[i] * u[i] * slope;
    u[i] = d[i] * g[i] * sigmoid;
    g[i] = dg;
  }
  StoreOctet(g, count - begin, aligned, dgate + begin);
  StoreOctet(u, count - begin, aligned, dup + begin);
}

// to[row or to_rows[row]] = from[row or from_rows[row]]; columns from `columns` on are 0.
template <typename T>
__global__ void CopyRowsKernel(const T* from, int64_t from_row, const int32_t* from_rows,
                               int64_t columns, int64_t columns_filled, T* to, int64_t to_row,
                               const int32_t* to_rows, bool aligned) {
  const int64_t row = blockIdx.x, column = RowOctetBegin();
  if (column >= columns_filled) return;
  const int64_t source = from_rows == nullptr ? row : from_rows[row];
  const int64_t target = to_rows == nullptr ? row : to_rows[row];
  float values[kOctet];
  LoadOctet(from + source * from_row + column, columns - column, aligned, values);
  StoreOctet(values, columns_filled - column, aligned, to + target * to_row + column);
}

template <typename T>
__global__ void FillKernel(T* x, int64_t count, float value) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) x[i] = RoundTo<T>(value);
}

__global__ void AddMatrixKernel(const float* from, int64_t from_row, int64_t columns, float* to,
                                int64_t to_row) {
  const int64_t row = blockIdx.x;
  for (int64_t column = blockIdx.y * blockDim.x + threadIdx.x; column < columns;
       column += gridDim.y * blockDim.x) {
    to[row * to_row + column] += from[row * from_row + column];
  }
}

template <typename T>
void CopyRows(Stream stream, const T* from, int64_t from_row, const int32_t* from_rows,
              int64_t rows, int64_t columns, int64_t columns_filled, T* to, int64_t to_row,
              const int32_t* to_rows) {
  if (rows == 0 || columns_filled == 0) return;
  DW_LAUNCH(stream, CopyRowsKernel<T>, RowGrid(rows, columns_filled), kRowThreads, 0, from,
            from_row, from_rows, columns, columns_filled, to, to_row, to_rows,
            IsAligned(from, from_row) && IsAligned(to, to_row));
}

}  // namespace

template <typename T>
void Embed(Stream stream, const T* table, int64_t table_row, int64_t vocabulary, const int32_t* ids,
           int64_t rows, int64_t width, float* out) {
  if (rows == 0 || width == 0) return;
  DW_LAUNCH(stream, EmbedKernel<T>, RowGrid(rows, width), kRowThreads, 0, table, table_row,
            vocabulary, ids, width, out, IsAligned(table, table_row) && IsAligned(out, width));
}

template <typename T>
void AddResidual(Stream stream, const float* x, const T* y, int64_t count, float* out) {
  if (count == 0) return;
  DW_LAUNCH(stream, AddResidualKernel<T>, ElementBlocks(count), kElementThreads, 0, x, y, count,
            out, IsAligned(x, 0) && IsAligned(y, 0) && IsAligned(out, 0));
}

template <typename T>
void Round(Stream stream, const float* x, int64_t count, T* y) {
  if (count == 0) return;
  DW_LAUNCH(stream, RoundKernel<T>, ElementBlocks(count), kElementThreads, 0, x, count, y,
            IsAligned(x, 0) && IsAligned(y, 0));
}

template <typename T>
void Rope(Stream stream, T* x, int64_t rows, int64_t heads, int64_t half, const int32_t* positions,
          const float* cosines, const float* sines, bool inverse) {
  const int64_t octets = rows * heads * OctetsOf(half);
  if (octets == 0) return;
  DW_LAUNCH(stream, RopeKernel<T>, static_cast<unsigned>(CeilDiv(octets, kElementThreads)),
            kElementThreads, 0, x, octets, heads, half, positions, cosines, sines,
            inverse ? -1.0f : 1.0f,
            IsAligned(x, half) && IsAligned(cosines, half) && IsAligned(sines, half));
}

template <typename T>
void SwigluForward(Stream stream, const T* gate, const T* up, int64_t count, T* out) {
  if (count == 0) return;
  DW_LAUNCH(stream, SwigluForwardKernel<T>, ElementBlocks(count), kElementThreads, 0, gate, up,
            count, out, IsAligned(gate, 0) && IsAligned(up, 0) && IsAligned(out, 0));
}

template <typename T>
void SwigluBackward(Stream stream, const T* gate, const T* up, const T* dout, int64_t count,
                    T* dgate, T* dup) {
  if (count == 0) return;
  DW_LAUNCH(stream, SwigluBackwardKernel<T>, ElementBlocks(count), kElementThreads, 0, gate, up,
            dout, count, dgate, dup,
            IsAligned(gate, 0) && IsAligned(up, 0) && IsAligned(dout, 0) && IsAligned(dgate, 0) &&
                IsAligned(dup, 0));
}

template <typename T>
void GatherRows(Stream stream, const T* x, const int32_t* rows, int64_t count, int64_t width,
                T* out) {
  CopyRows<T>(stream, x, width, rows, count, width, width, out, width, nullptr);
}

template <typename T>
void ScatterRows(Stream stream, const T* x, const int32_t* rows, int64_t count, int64_t width,
                 T* out) {
  CopyRows<T>(stream, x, width, nullptr, count, width, width, out, width, rows);
}

template <typename T>
void CopyMatrix(Stream stream, const T* from, int64_t from_row, int64_t rows, int64_t columns,
                int64_t columns_filled, T* to, int64_t to_row) {
  CopyRows<T>(stream, from, from_row, nullptr, rows, columns, columns_filled, to, to_row, nullptr);
}

template <typename T>
void FillValue(Stream stream, T* x, int64_t count, float value) {
  if (count == 0) return;
  DW_LAUNCH(stream, FillKernel<T>, static_cast<unsigned>(CeilDiv(count, kElementThreads)),
            kElementThreads, 0, x, count, value);
}

void AddMatrix(Stream stream, const float* from, int64_t from_row, int64_t rows, int64_t columns,
               float* to, int64_t to_row) {
  if (rows == 0 || columns == 0) return;
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(CeilDiv(columns, 1024)));
  DW_LAUNCH(stream, AddMatrixKernel, grid, kRowThreads, 0, from, from_row, columns, to, to_row);
}

#define DW_INSTANTIATE(T)                                                                   \
  template void Embed(Stream, const T*, int64_t, int64_t, const int32_t*, int64_t, int64_t, \
                      float*);                                                              \
  template void AddResidual(Stream, const float*, const T*, int64_t, float*);               \
  template void Round(Stream, const float*, int64_t, T*);                                   \
  template void Rope(Stream, T*, int64_t, int64_t, int64_t, const int32_t*, const float*,   \
                     const float*, bool);                                                   \
  template void SwigluForward(Stream, const T*, const T*, int64_t, T*);                     \
  template void SwigluBackward(Stream, const T*, const T*, const T*, int64_t, T*, T*);      \
  template void GatherRows(Stream, const T*, const int32_t*, int64_t, int64_t, T*);         \
  template void ScatterRows(Stream, const T*, const int32_t*, int64_t, int64_t, T*);        \
  template void FillValue(Stream, T*, int64_t, float);                                      \
  template void CopyMatrix(Stream, const T*, int64_t, int64_t, int64_t, int64_t, T*, int64_t)
DW_INSTANTIATE(float);
DW_INSTANTIATE(Bf16);
#undef DW_INSTANTIATE

}  // namespace deltaworks::trainer::cuda

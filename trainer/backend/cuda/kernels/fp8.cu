#include "trainer/backend/cuda/kernels/block_sum.h"
#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/cuda/kernels/octets.h"

namespace deltaworks::trainer::cuda {
namespace {

// One block takes one row.
constexpr int kRowBlock = 256;

// As trainer/backend/fp8.h has it.
constexpr float kLargestMin = 0x1p-96f;
constexpr float kCodeMax = 448.0f;

__global__ void RowsToFp8Kernel(const Bf16* x, int64_t x_row, int64_t columns,
                                int64_t columns_filled, uint8_t* codes, int64_t codes_row,
                                float* scales, bool aligned) {
  const Bf16* from = x + blockIdx.x * x_row;
  uint8_t* to = codes + blockIdx.x * codes_row;
  float values[kOctet];
  float largest = 0;
  for (int64_t column = threadIdx.x * kOctet; column < columns; column += kRowBlock * kOctet) {
    LoadOctet(from + column, columns - column, aligned, values);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) largest = fmaxf(largest, fabsf(values[i]));
  }
  largest = BlockMax(largest, DynamicShared<float>());
  const float scale = fmaxf(largest, kLargestMin) / kCodeMax;
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
  const float inverse = 1.0f / scale;
  // Whole octets: the row of codes has as many bytes as a product reads.
  for (int64_t column = threadIdx.x * kOctet; column < columns_filled;
       column += kRowBlock * kOctet) {
    LoadOctet(from + column, columns - column, aligned, values);
    uint32_t pairs[kOctet / 2];
#pragma unroll
    for (int i = 0; i < kOctet / 2; ++i) {
      pairs[i] = PackE4m3(values[2 * i] * inverse, values[2 * i + 1] * inverse);
    }
    *reinterpret_cast<uint2*>(to + column) =
        make_uint2(pairs[0] | pairs[1] << 16, pairs[2] | pairs[3] << 16);
  }
}

// A block transposes one square; its rows of shared memory are one element longer, for the banks.
constexpr int kSquare = 32;
constexpr int kSquareRows = 8;

__global__ void TransposeKernel(const Bf16* from, int64_t from_row, int64_t rows, int64_t columns,
                                Bf16* to, int64_t to_row) {
  Bf16* const square = DynamicShared<Bf16>();
  const int64_t row = static_cast<int64_t>(blockIdx.y) * kSquare;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kSquare;
  for (int i = threadIdx.y; i < kSquare; i += kSquareRows) {
    const int64_t r = row + i, c = column + threadIdx.x;
    if (r < rows && c < columns) {
      square[i * (kSquare + 1) + threadIdx.x] = from[r * from_row + c];
    }
  }
  __syncthreads();
  for (int i = threadIdx.y; i < kSquare; i += kSquareRows) {
    const int64_t r = row + threadIdx.x, c = column + i;
    if (r < rows && c < columns) to[c * to_row + r] = square[threadIdx.x * (kSquare + 1) + i];
  }
}

}  // namespace

void RowsToFp8(Stream stream, const Bf16* x, int64_t x_row, int64_t rows, int64_t columns,
               int64_t columns_filled, uint8_t* codes, int64_t codes_row, float* scales) {
  if (rows == 0) return;
  DW_LAUNCH(stream, RowsToFp8Kernel, static_cast<unsigned>(rows), kRowBlock,
            kBlockSumFloats * sizeof(float), x, x_row, columns, columns_filled, codes, codes_row,
            scales, IsAligned(x, x_row));
}

void Transpose(Stream stream, const Bf16* from, int64_t from_row, int64_t rows, int64_t columns,
               Bf16* to, int64_t to_row) {
  if (rows == 0 || columns == 0) return;
  const dim3 grid(static_cast<unsigned>(CeilDiv(columns, kSquare)),
                  static_cast<unsigned>(CeilDiv(rows, kSquare)));
  DW_LAUNCH(stream, TransposeKernel, grid, dim3(kSquare, kSquareRows),
            kSquare * (kSquare + 1) * sizeof(Bf16), from, from_row, rows, columns, to, to_row);
}

}  // namespace deltaworks::trainer::cuda

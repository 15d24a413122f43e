#include "trainer/backend/cuda/kernels/block_sum.h"
#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/cuda/kernels/octets.h"

namespace deltaworks::trainer::cuda {
namespace {

// One block normalises one row.
constexpr int kNormThreads = 256;
constexpr int kSharedBytes = kBlockSumFloats * sizeof(float);

template <typename T>
__global__ void RmsNormForwardKernel(const float* x, const float* weight, float epsilon,
                                     int64_t width, T* y, float* rstd, bool aligned) {
  const int64_t row = blockIdx.x;
  const float* from = x + row * width;
  float sum = 0;
  for (int64_t column = threadIdx.x * kOctet; column < width; column += kNormThreads * kOctet) {
    float values[kOctet];
    LoadOctet(from + column, width - column, aligned, values);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) sum += values[i] * values[i];
  }
  sum = BlockSum(sum, DynamicShared<float>());
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(width) + epsilon);
  if (threadIdx.x == 0) rstd[row] = scale;
  for (int64_t column = threadIdx.x * kOctet; column < width; column += kNormThreads * kOctet) {
    float values[kOctet], weights[kOctet];
    LoadOctet(from + column, width - column, aligned, values);
    LoadOctet(weight + column, width - column, aligned, weights);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) values[i] = values[i] * scale * weights[i];
    StoreOctet(values, width - column, aligned, y + row * width + column);
  }
}

// With g = dy * weight and n = x * rstd:  dx += rstd * (g - n * mean(g * n)).
template <typename T>
__global__ void RmsNormBackwardKernel(const float* x, const float* weight, const float* rstd,
                                      const T* dy, int64_t width, float* dx, bool aligned) {
  const int64_t row = blockIdx.x;
  const float scale = rstd[row];
  float values[kOctet], weights[kOctet], gradients[kOctet];
  float sum = 0;
  for (int64_t column = threadIdx.x * kOctet; column < width; column += kNormThreads * kOctet) {
    const int64_t at = row * width + column, count = width - column;
    LoadOctet(x + at, count, aligned, values);
    LoadOctet(weight + column, count, aligned, weights);
    LoadOctet(dy + at, count, aligned, gradients);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) sum += gradients[i] * weights[i] * (values[i] * scale);
  }
  const float mean = BlockSum(sum, DynamicShared<float>()) / static_cast<float>(width);
  for (int64_t column = threadIdx.x * kOctet; column < width; column += kNormThreads * kOctet) {
    const int64_t at = row * width + column, count = width - column;
    LoadOctet(x + at, count, aligned, values);
    LoadOctet(weight + column, count, aligned, weights);
    LoadOctet(dy + at, count, aligned, gradients);
    float sums[kOctet];
    LoadOctet(dx + at, count, aligned, sums);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      sums[i] += scale * (gradients[i] * weights[i] - values[i] * scale * mean);
    }
    StoreOctet(sums, count, aligned, dx + at);
  }
}

}  // namespace

template <typename T>
void RmsNormForward(Stream stream, const float* x, const float* weight, float epsilon, int64_t rows,
                    int64_t width, T* y, float* rstd) {
  if (rows == 0) return;
  DW_LAUNCH(stream, RmsNormForwardKernel<T>, static_cast<unsigned>(rows), kNormThreads,
            kSharedBytes, x, weight, epsilon, width, y, rstd,
            IsAligned(x, width) && IsAligned(weight, 0) && IsAligned(y, width));
}

template <typename T>
void RmsNormBackward(Stream stream, const float* x, const float* weight, const float* rstd,
                     const T* dy, int64_t rows, int64_t width, float* dx) {
  if (rows == 0) return;
  DW_LAUNCH(
      stream, RmsNormBackwardKernel<T>, static_cast<unsigned>(rows), kNormThreads, kSharedBytes, x,
      weight, rstd, dy, width, dx,
      IsAligned(x, width) && IsAligned(weight, 0) && IsAligned(dy, width) && IsAligned(dx, width));
}

#define DW_INSTANTIATE(T)                                                                       \
  template void RmsNormForward(Stream, const float*, const float*, float, int64_t, int64_t, T*, \
                               float*);                                                         \
  template void RmsNormBackward(Stream, const float*, const float*, const float*, const T*,     \
                                int64_t, int64_t, float*)
DW_INSTANTIATE(float);
DW_INSTANTIATE(Bf16);
#undef DW_INSTANTIATE

}  // namespace deltaworks::trainer::cuda

#include "trainer/backend/cuda/kernels/kernels.h"
#include "trainer/backend/cuda/kernels/octets.h"

namespace deltaworks::trainer::cuda {

template <>
inline constexpr bool kEqualInBytes<AdamWScalars> = sizeof(AdamWScalars) == 9 * sizeof(float);

namespace {

// Elements of one partial sum of squares, and the threads that make it.
constexpr int64_t kSquareBlock = 16384;
constexpr int kSquareThreads = 256;

// shared[0] = the sum over the block, as a tree.
__device__ __forceinline__ double TreeSum(double x, double* shared) {
  shared[threadIdx.x] = x;
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  __syncthreads();
  return shared[0];
}

__global__ void SquarePartialsKernel(const float* x, int64_t count, double* partials) {
  const int64_t begin = blockIdx.x * kSquareBlock;
  const int64_t end = begin + kSquareBlock < count ? begin + kSquareBlock : count;
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kSquareThreads) {
    const double value = x[i];
    sum += value * value;
  }
  sum = TreeSum(sum, DynamicShared<double>());
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void AddPartialsKernel(const double* partials, int64_t count, double* total) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kSquareThreads) sum += partials[i];
  sum = TreeSum(sum, DynamicShared<double>());
  if (threadIdx.x == 0) *total = sum;
}

__global__ void AdamWKernel(AdamWScalars scalars, const float* gradient, int64_t count,
                            float* parameter, float* m, float* v) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float g = gradient[i] * scalars.gradient_scale;
  const float mean = m[i] + scalars.one_minus_beta1 * (g - m[i]);
  const float square = scalars.beta2 * v[i] + scalars.one_minus_beta2 * g * g;
  const float denominator = sqrtf(square) / scalars.root_correction2 + scalars.epsilon;
  parameter[i] = parameter[i] * scalars.decay - scalars.step_size * (mean / denominator);
  m[i] = mean;
  v[i] = square;
}

}  // namespace

int64_t SquarePartials(int64_t count) { return CeilDiv(count, kSquareBlock); }

void SumOfSquares(Stream stream, const float* x, int64_t count, double* partials, double* sum) {
  const int64_t blocks = SquarePartials(count);
  constexpr int kSharedBytes = kSquareThreads * sizeof(double);
  if (blocks > 0) {
    DW_LAUNCH(stream, SquarePartialsKernel, static_cast<unsigned>(blocks), kSquareThreads,
              kSharedBytes, x, count, partials);
  }
  DW_LAUNCH(stream, AddPartialsKernel, 1, kSquareThreads, kSharedBytes, partials, blocks, sum);
}

void AdamW(Stream stream, const AdamWScalars& scalars, const float* gradient, int64_t count,
           float* parameter, float* m, float* v) {
  if (count == 0) return;
  DW_LAUNCH(stream, AdamWKernel, static_cast<unsigned>(CeilDiv(count, kElementThreads)),
            kElementThreads, 0, scalars, gradient, count, parameter, m, v);
}

}  // namespace deltaworks::trainer::cuda

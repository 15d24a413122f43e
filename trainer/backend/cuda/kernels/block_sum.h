// Sums and largest values of a block: warps as trees, then the warps in order.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_BLOCK_SUM_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_BLOCK_SUM_H_

#include "trainer/backend/cuda/kernels/device_code.h"

namespace deltaworks::trainer::cuda {

// Room in shared memory for one value of each warp, and for the result.
constexpr int kBlockSumFloats = 33;

template <typename Combine>
__device__ __forceinline__ float CombineBlock(float of_warp, float* shared, Combine combine) {
  const int warp = threadIdx.x / kWarp, warps = (blockDim.x + kWarp - 1) / kWarp;
  if (threadIdx.x % kWarp == 0) shared[warp] = of_warp;
  __syncthreads();
  if (threadIdx.x == 0) {
    float value = shared[0];
    for (int i = 1; i < warps; ++i) value = combine(value, shared[i]);
    shared[kBlockSumFloats - 1] = value;
  }
  __syncthreads();
  const float value = shared[kBlockSumFloats - 1];
  __syncthreads();  // `shared` may be used again.
  return value;
}

// Every thread gets the result. `shared` has kBlockSumFloats.
__device__ __forceinline__ float BlockSum(float x, float* shared) {
  return CombineBlock(WarpSum(x), shared, [](float a, float b) { return a + b; });
}
__device__ __forceinline__ float BlockMax(float x, float* shared) {
  return CombineBlock(WarpMax(x), shared, [](float a, float b) { return fmaxf(a, b); });
}

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_BLOCK_SUM_H_

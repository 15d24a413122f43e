// What host code and kernels share of CUDA: nothing of its headers.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_TYPES_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_TYPES_H_

#include <cstdint>

namespace deltaworks::trainer::cuda {

// A cudaStream_t.
using Stream = void*;

// The upper half of an f32, as trainer/tensor.h's BFloat16, bit for bit.
struct alignas(2) Bf16 {
  uint16_t bits;
};

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_KERNELS_TYPES_H_

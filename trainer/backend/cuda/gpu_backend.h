// The Backend over a Gpu: shapes checked, scratch planned, operations cut into products and
// kernels. The card's (cuda_backend.h) and the emulated one of tests differ in the Gpu only.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_GPU_BACKEND_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_GPU_BACKEND_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "trainer/backend/backend.h"
#include "trainer/backend/cuda/gpu.h"

namespace deltaworks::trainer {

// `compute_type` and `finished` as in CudaOptions.
std::unique_ptr<Backend> NewGpuBackend(std::unique_ptr<cuda::Gpu> gpu, DType compute_type,
                                       std::function<void(const char*)> finished);

// Bytes of scratch that such a backend holds.
int64_t GpuScratchHeld(const Backend& gpu_backend);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_GPU_BACKEND_H_

// A Gpu of plain loops in the host's memory, for tests: products as Gpu promises them, kernels
// emulated (emulation.h). Slow.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_EMULATION_EMULATED_GPU_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_EMULATION_EMULATED_GPU_H_

#include <memory>

#include "trainer/backend/cuda/emulation/emulation.h"
#include "trainer/backend/cuda/gpu.h"

namespace deltaworks::trainer::cuda {

// Kernels run their threads, and blocks, in this order.
std::unique_ptr<GraphGpu> NewEmulatedGpu(ThreadOrder order);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_EMULATION_EMULATED_GPU_H_

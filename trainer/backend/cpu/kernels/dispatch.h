// Which KernelSets this machine can run.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DISPATCH_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DISPATCH_H_

#include <vector>

#include "trainer/backend/cpu/kernels/kernels.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

// Those for a compute type, kF32 or kBF16, the fastest last; "generic" is always there. They live
// as long as the process. The environment's ONEDNN_MAX_CPU_ISA is a limit, in oneDNN's names: one
// variable for us and for what we are measured against.
std::vector<const KernelSet*> SupportedKernels(DType compute_type);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DISPATCH_H_

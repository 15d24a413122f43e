// Which KernelSet this machine runs.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DISPATCH_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DISPATCH_H_

#include <vector>

#include "trainer/backend/cpu/kernels/kernels.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

// kOneDnn: the kernels of kAvx512Bf16, with products by oneDNN, which knows AMX.
enum class KernelIsa { kGeneric, kAvx2, kAvx512, kAvx512Bf16, kOneDnn };

// Those that this machine can run in a compute type, the fastest last; kGeneric is always there.
// The environment's ONEDNN_MAX_CPU_ISA is a limit for all of them.
std::vector<KernelIsa> SupportedKernelIsas(DType compute_type);

// compute_type is kF32 or kBF16.
const KernelSet& KernelsFor(KernelIsa isa, DType compute_type);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DISPATCH_H_

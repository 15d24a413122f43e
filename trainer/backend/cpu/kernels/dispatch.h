// Which KernelSet this machine runs.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DISPATCH_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DISPATCH_H_

#include <vector>

#include "trainer/backend/cpu/kernels/kernels.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

enum class KernelIsa { kGeneric, kAvx2, kAvx512 };

// Those that this machine can run, slowest first; kGeneric is always there.
std::vector<KernelIsa> SupportedKernelIsas();

// compute_type is kF32 or kBF16.
const KernelSet& KernelsFor(KernelIsa isa, DType compute_type);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_DISPATCH_H_

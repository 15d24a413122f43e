// The KernelSets that tests run: those of this machine and, where it can emulate tiles, AMX's.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_TESTED_KERNELS_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_TESTED_KERNELS_H_

#include <vector>

#include "trainer/backend/cpu/kernels/dispatch.h"

namespace deltaworks::trainer {

// SupportedKernels() and "amx_emulated", which takes about twenty times as long.
std::vector<const KernelSet*> TestedKernels(DType compute_type);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_KERNELS_TESTED_KERNELS_H_

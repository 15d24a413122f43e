// A CpuBackend with kernels of a chosen instruction set, so that a test can run each one that its
// machine has. Bits differ between them, and so does numerics_class().

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_CPU_BACKEND_TESTING_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_CPU_BACKEND_TESTING_H_

#include <memory>

#include "absl/status/statusor.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/backend/cpu/kernels/dispatch.h"

namespace deltaworks::trainer {

// `isa`: one of SupportedKernelIsas().
absl::StatusOr<std::unique_ptr<Backend>> NewCpuBackendWithKernels(const CpuOptions& options,
                                                                  KernelIsa isa);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_CPU_BACKEND_TESTING_H_

// A CpuBackend with kernels of a chosen instruction set, so that a test can run each one that its
// machine has. Bits differ between them, and so does numerics_class().

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_CPU_BACKEND_TESTING_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_CPU_BACKEND_TESTING_H_

#include <memory>

#include "absl/status/statusor.h"
#include "trainer/backend/cpu/cpu_backend.h"
#include "trainer/backend/cpu/kernels/kernels.h"

namespace deltaworks::trainer {

// `kernels`: for that compute type; they must outlive the backend.
absl::StatusOr<std::unique_ptr<Backend>> NewCpuBackendWithKernels(const CpuOptions& options,
                                                                  const KernelSet& kernels);

// Bytes of scratch that a CpuBackend holds, and those beyond what was reserved: what its bound left
// out.
struct CpuScratch {
  int64_t held = 0;
  int64_t unreserved = 0;
};
CpuScratch ScratchOf(const Backend& cpu_backend);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_CPU_BACKEND_TESTING_H_

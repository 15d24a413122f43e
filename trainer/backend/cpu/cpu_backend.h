// CpuBackend: the Backend of x86-64 machines, in f32 or bf16, with kernels for each instruction
// set. All operations have finished when their call returns.
//
// A row's bits depend neither on the other rows nor on the number of threads; they do depend on the
// instruction set, which numerics_class() names.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_CPU_BACKEND_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_CPU_BACKEND_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/backend/backend.h"

namespace deltaworks::trainer {

struct CpuOptions {
  DType compute_type = DType::kF32;  // kF32 or kBF16.
  // Threads that work at the same time, the caller's own included.
  int threads = 1;
  // Started thread i runs on cores[i % size] only; the caller's thread is never pinned. Empty: the
  // system places them.
  std::vector<int> cores;
};

//   InvalidArgument  another compute type, threads not in 1..1024, a core that this process may not
//                    use.
absl::StatusOr<std::unique_ptr<Backend>> NewCpuBackend(const CpuOptions& options);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_CPU_BACKEND_H_

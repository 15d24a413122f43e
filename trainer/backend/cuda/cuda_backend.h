// CudaBackend: the Backend of one NVIDIA GPU of compute capability 9.0 (Hopper), in f32 or bf16,
// there also over a base in fp8.
// README.md has the algebra and what makes it exact.
//
// Operations are issued in call order to one stream and return before they have finished; copies to
// the host wait. Memory is the card's: what Allocate() gives must not be touched by the host.
//
// A build without nvcc has no_cuda.cc, which finds no card.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_CUDA_BACKEND_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_CUDA_BACKEND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/backend/backend.h"

namespace deltaworks::trainer {

struct CudaDevice {
  int index = 0;       // As CUDA counts them.
  std::string name;    // "NVIDIA H100 80GB HBM3"
  int capability = 0;  // 90 is 9.0.
  int64_t memory_bytes = 0;
};

// The cards of this machine.
//   Unavailable  none; says whether the driver is missing, too old, or sees no card, or that this
//                build has no CUDA.
absl::StatusOr<std::vector<CudaDevice>> FindCudaDevices();

struct CudaOptions {
  DType compute_type = DType::kBF16;  // kF32, kBF16, or kF8E4M3: bf16 over a base in fp8.
  int device = 0;
  // What repeats is issued as CUDA graphs (graphed_gpu.h). The same bytes. No card has run it yet.
  bool graphs = false;
  // If set, each operation waits until the card has finished it and then calls this with its name:
  // for profiles, and to find a fault where it happens. Slow.
  std::function<void(const char* operation)> finished;
};

//   InvalidArgument  another compute type; a device that there is not.
//   Unavailable      as FindCudaDevices(), or another capability than 9.0.
//   FailedPrecondition  cuBLASLt was not found; says where it was looked for.
absl::StatusOr<std::unique_ptr<Backend>> NewCudaBackend(const CudaOptions& options);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_CUDA_BACKEND_H_

// Stands in for the card where there was no nvcc to compile it.

#include "trainer/backend/cuda/cuda_backend.h"
#include "trainer/backend/cuda/cuda_collective.h"

namespace deltaworks::trainer {

absl::StatusOr<std::vector<CudaDevice>> FindCudaDevices() {
  return absl::UnavailableError("this build has no CUDA: nvcc was not found when it was made");
}

absl::StatusOr<std::unique_ptr<Backend>> NewCudaBackend(const CudaOptions&) {
  return FindCudaDevices().status();
}

absl::StatusOr<std::unique_ptr<CollectiveDevice>> NewCudaCollectiveDevice(int) {
  return FindCudaDevices().status();
}

}  // namespace deltaworks::trainer

// The Gpu that is one: CUDA's runtime, linked statically, and cuBLASLt, loaded.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_CARD_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_CARD_H_

#include <memory>

#include "absl/status/statusor.h"
#include "trainer/backend/cuda/gpu.h"

namespace deltaworks::trainer::cuda {

enum class Memory {
  kCard,
  // The host's, which the card reaches over the bus: for tests that look into it. Slow.
  kHost,
};

// InvalidArgument, Unavailable, FailedPrecondition as NewCudaBackend() has them;
// ResourceExhausted if the card has no room for the workspace of products.
absl::StatusOr<std::unique_ptr<GraphGpu>> OpenCard(int device, Memory memory);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_CARD_H_

// A card as NcclCommunicator sees it (trainer/comm/collective_device.h): a stream of its own beside
// that of the card's backend, which must be idle where both touch the same memory.
//
// Not yet run on a GPU: a gang needs two.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_CUDA_COLLECTIVE_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_CUDA_COLLECTIVE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "trainer/comm/collective_device.h"

namespace deltaworks::trainer {

// Of the card that CUDA counts as `device`.
//   Unavailable        as FindCudaDevices(), or the card does not start.
//   ResourceExhausted  no room for the host's part of copies.
absl::StatusOr<std::unique_ptr<CollectiveDevice>> NewCudaCollectiveDevice(int device);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_CUDA_COLLECTIVE_H_

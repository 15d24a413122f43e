// CardLauncher: launches kernels on a stream of a card. A failure shows in cudaGetLastError().
// Thread-compatible; the calling thread has made the card its current one.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_CARD_LAUNCHER_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_CARD_LAUNCHER_H_

#include <cuda_runtime.h>

#include "trainer/backend/cuda/kernels/types.h"

namespace deltaworks::trainer::cuda {

class CardLauncher final : public Launcher {
 public:
  explicit CardLauncher(cudaStream_t stream) : stream_(stream) {}
  void Launch(const KernelLaunch& launch) override {
    const dim3 grid(launch.grid[0], launch.grid[1], launch.grid[2]);
    const dim3 block(launch.block[0], launch.block[1], launch.block[2]);
    cudaLaunchKernel(launch.kernel, grid, block, const_cast<void**>(launch.arguments),
                     launch.shared_bytes, stream_);
  }

 private:
  const cudaStream_t stream_;
};

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_CARD_LAUNCHER_H_

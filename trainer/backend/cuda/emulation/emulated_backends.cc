// TestedBackends() of CUDA's host code and kernels, emulated, all of it in graphs. A number of
// threads stands for an order in which a block's threads run.

#include "trainer/backend/cuda/emulation/emulated_gpu.h"
#include "trainer/backend/cuda/gpu_backend.h"
#include "trainer/backend/cuda/graphed_gpu.h"
#include "trainer/backend/parity/backends.h"

namespace deltaworks::trainer {

std::vector<TestedBackend> TestedBackends() {
  std::vector<TestedBackend> backends;
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    const auto make = [type](int threads) {
      static constexpr cuda::ThreadOrder kOrders[] = {
          cuda::ThreadOrder::kForward, cuda::ThreadOrder::kBackward, cuda::ThreadOrder::kShuffled};
      // Each operation is waited for, so that tests may look into its memory.
      return NewGpuBackend(
          std::make_unique<cuda::GraphedGpu>(cuda::NewEmulatedGpu(kOrders[threads % 3]),
                                             cuda::GraphOptions{.pieces_first = 0}),
          type, /*finished=*/[](const char*) {});
    };
    backends.push_back({.name = std::string(NameOf(type)) + "emulated",
                        .type = type == DType::kF32 ? DType::kF32 : DType::kBF16,
                        .fp8_base = type == DType::kF8E4M3,
                        .numerics = "cuda/emulated/",
                        .thinning = 31,
                        .rounds_probabilities = type != DType::kF32,
                        .make = make});
  }
  return backends;
}

}  // namespace deltaworks::trainer

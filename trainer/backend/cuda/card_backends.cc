// TestedBackends() of a card, whose memory is the host's so that tests can look into it. Streams
// take the place of threads.

#include "glog/logging.h"
#include "trainer/backend/cuda/card.h"
#include "trainer/backend/cuda/gpu_backend.h"
#include "trainer/backend/cuda/graphed_gpu.h"
#include "trainer/backend/parity/backends.h"

namespace deltaworks::trainer {

std::vector<TestedBackend> TestedBackends() {
  std::vector<TestedBackend> backends;
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    const auto make = [type](int) {
      auto card = cuda::OpenCard(/*device=*/0, cuda::Memory::kHost);
      CHECK(card.ok()) << card.status();
      return NewGpuBackend(
          std::make_unique<cuda::GraphedGpu>(*std::move(card), cuda::GraphOptions()), type,
          /*finished=*/[](const char*) {});
    };
    backends.push_back({.name = std::string(NameOf(type)) + "card",
                        .type = type == DType::kF32 ? DType::kF32 : DType::kBF16,
                        .fp8_base = type == DType::kF8E4M3,
                        .numerics = "cuda/sm90/cublaslt-",
                        .rounds_probabilities = type != DType::kF32,
                        .make = make});
  }
  return backends;
}

}  // namespace deltaworks::trainer

#include <vector>

#include "tests/gpu/probe/gpu.h"
#include "tests/gpu/probe/matmul.h"
#include "tests/gpu/probe/sections.h"

namespace deltaworks::gpu_probe {
namespace {

double GigabytesPerSecond(int64_t bytes, double microseconds) {
  return static_cast<double>(bytes) / microseconds / 1000;
}

void Copies() {
  constexpr int64_t kBytes = int64_t{4} << 30;
  constexpr int64_t kHostBytes = int64_t{512} << 20;
  const Buffer from(kBytes);
  const Buffer to(kBytes);
  FillNormalF32(from.as<float>(), kBytes / 4, 1, 1);
  const double on_card = Microseconds([&](int) {
    PROBE_CHECK(
        cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, Stream()));
  });
  void* pinned = nullptr;
  PROBE_CHECK(cudaMallocHost(&pinned, kHostBytes));
  std::vector<char> pageable(kHostBytes, 1);
  const auto copy = [&](void* target, const void* source, cudaMemcpyKind kind) {
    return GigabytesPerSecond(
        kHostBytes, Microseconds([&](int) {
          PROBE_CHECK(cudaMemcpyAsync(target, source, kHostBytes, kind, Stream()));
        }));
  };
  const double up = copy(to.data(), pinned, cudaMemcpyHostToDevice);
  const double down = copy(pinned, to.data(), cudaMemcpyDeviceToHost);
  const double up_pageable = copy(to.data(), pageable.data(), cudaMemcpyHostToDevice);
  PROBE_CHECK(cudaFreeHost(pinned));
  std::printf(
      "copy on the card %.0f GB/s read + written; up %.1f, down %.1f GB/s pinned; up %.1f "
      "pageable\n",
      GigabytesPerSecond(2 * kBytes, on_card), up, down, up_pageable);
  std::fprintf(Records(),
               "{\"ask\":\"copy\",\"card_gb_s\":%.0f,\"up_gb_s\":%.1f,\"down_gb_s\":%.1f,"
               "\"up_pageable_gb_s\":%.1f}\n",
               GigabytesPerSecond(2 * kBytes, on_card), up, down, up_pageable);
}

}  // namespace

void AskCard() {
  cudaDeviceProp card = {};
  PROBE_CHECK(cudaGetDeviceProperties(&card, 0));
  int driver = 0;
  int runtime = 0;
  PROBE_CHECK(cudaDriverGetVersion(&driver));
  PROBE_CHECK(cudaRuntimeGetVersion(&runtime));
  std::printf(
      "%s: sm_%d%d, %d multiprocessors, %.1f GiB, L2 %d MiB, shared memory of a block %zu; "
      "driver API %d, runtime %d, cuBLASLt %lld\n",
      card.name, card.major, card.minor, card.multiProcessorCount,
      static_cast<double>(card.totalGlobalMem) / (1 << 30), card.l2CacheSize >> 20,
      card.sharedMemPerBlockOptin, driver, runtime, static_cast<long long>(CublasLtVersion()));
  std::fprintf(Records(),
               "{\"ask\":\"card\",\"name\":\"%s\",\"sm\":\"%d%d\",\"multiprocessors\":%d,"
               "\"bytes\":%zu,\"l2_bytes\":%d,\"shared_bytes\":%zu,\"driver\":%d,\"runtime\":%d,"
               "\"cublaslt\":%lld}\n",
               card.name, card.major, card.minor, card.multiProcessorCount, card.totalGlobalMem,
               card.l2CacheSize, card.sharedMemPerBlockOptin, driver, runtime,
               static_cast<long long>(CublasLtVersion()));
  Copies();
}

}  // namespace deltaworks::gpu_probe

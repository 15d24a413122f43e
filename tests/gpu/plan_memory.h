// What training takes of a card's memory, without a card: the code that allocates runs as it would
// there (Llama::Create, Adapter::Create, Workspace::Reserve over the cuda backend), on a Gpu that
// has no memory and only adds up what it is asked for. So no size is computed a second way.
//
// What the backend does not allocate itself is a constant below, estimated.

#ifndef DELTAWORKS_TESTS_GPU_PLAN_MEMORY_H_
#define DELTAWORKS_TESTS_GPU_PLAN_MEMORY_H_

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tests/gpu/model_shapes.h"
#include "trainer/backend/cuda/gpu.h"
#include "trainer/formats/safetensors.h"
#include "trainer/model/config.h"

namespace deltaworks::trainer {

// Estimated, generously: CUDA's context, our kernels, and those of cuBLASLt that were loaded.
inline constexpr int64_t kContextBytes = int64_t{768} << 20;
// Estimated: a card gives memory in pages of so many bytes, which smaller pieces share.
inline constexpr int64_t kPageBytes = int64_t{2} << 20;
// Ranks and tokens that MemoryPlan's last two fields speak of.
inline constexpr int64_t kFurtherRank = 16;
inline constexpr int64_t kFurtherTokens = 1024;

// What a Gpu was asked for and has not got back.
class GpuMemory {
 public:
  void Add(const void* address, int64_t bytes);
  // nullptr is nothing.
  void Remove(const void* address);

  int64_t bytes() const { return bytes_; }
  int64_t peak_bytes() const { return peak_bytes_; }
  // What pages add to bytes().
  int64_t page_waste_bytes() const { return page_waste_bytes_; }

 private:
  std::map<const void*, int64_t> pieces_;
  int64_t bytes_ = 0;
  int64_t peak_bytes_ = 0;
  int64_t page_waste_bytes_ = 0;
};

// What a NullGpu did not do.
struct GpuCalls {
  int64_t launches = 0;
  int64_t products = 0;
  int64_t copies = 0;  // And zeros.
  int64_t graphs = 0;  // Runs of them; what is in them is not counted again.
  int64_t waits = 0;

  int64_t sum() const { return launches + products + copies + graphs; }
};

// A Gpu without memory that does nothing: the addresses it gives exist on no machine, what is
// copied to the host is zeros. `memory` and `calls` must outlive it.
class NullGpu final : public cuda::GraphGpu, private cuda::Launcher {
 public:
  explicit NullGpu(GpuMemory& memory, GpuCalls* calls = nullptr);

  std::string numerics() const override { return "none"; }
  cuda::Stream stream() override { return this; }
  void Multiply(const cuda::Product&) override { ++calls_.products; }

  absl::StatusOr<void*> Allocate(int64_t bytes) override;
  void Free(void* memory) override { memory_.Remove(memory); }
  void CopyToDevice(const void*, void*, int64_t) override { ++calls_.copies; }
  void CopyRowsToDevice(const void*, int64_t, int64_t, void*, int64_t) override { ++calls_.copies; }
  void CopyToHost(const void* device, void* host, int64_t bytes) override;
  void CopyOnDevice(const void*, void*, int64_t) override { ++calls_.copies; }
  void Zero(void*, int64_t) override { ++calls_.copies; }
  void Issued(const char*) override {}
  void Wait() override { ++calls_.waits; }
  absl::Status Synchronize() override;

  absl::StatusOr<void*> AllocatePinned(int64_t bytes) override { return std::malloc(bytes); }
  void FreePinned(void* memory) override { std::free(memory); }
  void CopyPinnedToDevice(const void*, void*, int64_t) override { ++calls_.copies; }
  void BeginGraph() override { before_graph_ = calls_; }
  std::unique_ptr<cuda::Graph> EndGraph() override;
  void Run(const cuda::Graph&) override { ++calls_.graphs; }

 private:
  void Launch(const cuda::KernelLaunch&) override { ++calls_.launches; }

  GpuMemory& memory_;
  GpuCalls own_calls_;
  GpuCalls& calls_;
  GpuCalls before_graph_;
  uintptr_t next_;
};

// All weights of such a model in bf16, of which there is nothing to read.
TensorMap AbsentWeights(const ModelConfig& config);

struct MemoryPlan {
  int64_t parameters = 0;
  int64_t weight_bytes = 0;  // 2 for each parameter.
  // For adapters in packed weights, or scales of rows of fp8; norms' other half, RoPE tables.
  int64_t room_bytes = 0;
  int64_t adapter_bytes = 0;     // Masters, gradients, moments, rounded copies.
  int64_t activation_bytes = 0;  // Kept by each layer for backward.
  int64_t layer_bytes = 0;       // What the layers share while they run.
  int64_t scratch_bytes = 0;
  int64_t page_waste_bytes = 0;
  int64_t token_bytes = 0;  // Of each further token in flight.
  int64_t job_bytes = 0;    // Of each further job of kFurtherRank, beside its tokens.

  // Exactly what the backend asks the card for.
  int64_t allocated_bytes() const {
    return weight_bytes + room_bytes + adapter_bytes + activation_bytes + layer_bytes +
           scratch_bytes;
  }
  int64_t total_bytes() const {
    return allocated_bytes() + page_waste_bytes + cuda::kProductWorkspaceBytes + kContextBytes;
  }
};

// Of jobs that train together, one step of each in one pass; examples of `tokens` rows.
// compute_type: kBF16, or kF8E4M3: over a base in fp8.
MemoryPlan PlanMemory(const ModelConfig& config, absl::Span<const JobShape> jobs, int64_t tokens,
                      DType compute_type);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_GPU_PLAN_MEMORY_H_

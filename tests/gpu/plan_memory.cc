#include "tests/gpu/plan_memory.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "glog/logging.h"
#include "trainer/backend/cuda/gpu_backend.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/lora_config.h"
#include "trainer/model/llama.h"
#include "trainer/model/llama_tensors.h"
#include "trainer/model/workspace.h"

namespace deltaworks::trainer {
namespace {

// No processor has addresses like these: who touches one is stopped at once.
constexpr uintptr_t kNowhere = uintptr_t{1} << 60;
constexpr int64_t kAlignment = 256;

int64_t RoundUp(int64_t bytes, int64_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

// Small pieces share a page.
int64_t PageWaste(int64_t bytes) {
  return bytes < kPageBytes / 2 ? 0 : RoundUp(bytes, kPageBytes) - bytes;
}

std::vector<LoraTarget> TargetsOf(const ModelConfig& config, const JobShape& job, int64_t tokens) {
  auto targets =
      ResolveTargets(ConfigOf(job, tokens, /*steps=*/1, /*dropout=*/0).lora, LlamaModules(config));
  CHECK(targets.ok()) << targets.status();
  return *std::move(targets);
}

void Widen(const std::array<int64_t, kLinearGroups>& hidden, WorkspaceSize* size) {
  for (int group = 0; group < kLinearGroups; ++group) {
    size->hidden[group] = std::max(size->hidden[group], hidden[group]);
  }
}

WorkspaceSize SizeOfPass(const ModelConfig& config, absl::Span<const JobShape> jobs,
                         int64_t tokens) {
  WorkspaceSize size{
      .segments = static_cast<int64_t>(jobs.size()), .keys = tokens, .training = true};
  for (const JobShape& job : jobs) {
    size.rows += job.examples * tokens;
    Widen(HiddenColumns(TargetsOf(config, job, tokens)), &size);
  }
  size.labels = size.rows;
  return size;
}

int64_t PassBytes(const Backend& backend, const ModelConfig& config, const WorkspaceSize& size) {
  return Workspace::Bytes(backend, config, size) + Workspace::ScratchBytes(backend, config, size);
}

// What one more layer adds to a workspace, for all layers.
int64_t ActivationBytes(const Backend& backend, const ModelConfig& config,
                        const WorkspaceSize& size) {
  ModelConfig deeper = config;
  ++deeper.num_hidden_layers;
  return config.num_hidden_layers *
         (Workspace::Bytes(backend, deeper, size) - Workspace::Bytes(backend, config, size));
}

}  // namespace

void GpuMemory::Add(const void* address, int64_t bytes) {
  CHECK(pieces_.emplace(address, bytes).second);
  bytes_ += bytes;
  page_waste_bytes_ += PageWaste(bytes);
  peak_bytes_ = std::max(peak_bytes_, bytes_);
}

void GpuMemory::Remove(const void* address) {
  if (address == nullptr) return;
  const auto piece = pieces_.find(address);
  CHECK(piece != pieces_.end());
  bytes_ -= piece->second;
  page_waste_bytes_ -= PageWaste(piece->second);
  pieces_.erase(piece);
}

NullGpu::NullGpu(GpuMemory& memory, GpuCalls* calls)
    : memory_(memory), calls_(calls == nullptr ? own_calls_ : *calls), next_(kNowhere) {}

absl::StatusOr<void*> NullGpu::Allocate(int64_t bytes) {
  void* address = reinterpret_cast<void*>(next_);
  next_ += RoundUp(std::max<int64_t>(bytes, 1), kAlignment);
  memory_.Add(address, bytes);
  return address;
}

void NullGpu::CopyToHost(const void*, void* host, int64_t bytes) {
  ++calls_.copies;
  ++calls_.waits;
  std::memset(host, 0, bytes);
}

absl::Status NullGpu::Synchronize() {
  ++calls_.waits;
  return absl::OkStatus();
}

std::unique_ptr<cuda::Graph> NullGpu::EndGraph() {
  calls_ = before_graph_;
  return std::make_unique<cuda::Graph>();
}

TensorMap AbsentWeights(const ModelConfig& config) {
  TensorMap tensors;
  for (const auto& [name, shape] : LlamaTensorShapes(config)) {
    tensors[name] = ConstTensorView(reinterpret_cast<const void*>(kNowhere),
                                    StoredDType(DType::kBF16, shape), shape);
  }
  return tensors;
}

MemoryPlan PlanMemory(const ModelConfig& config, absl::Span<const JobShape> jobs, int64_t tokens,
                      DType compute_type) {
  GpuMemory memory;
  const auto backend =
      NewGpuBackend(std::make_unique<NullGpu>(memory), compute_type, /*finished=*/nullptr);
  MemoryPlan plan;
  plan.parameters = LlamaParameters(config);
  plan.weight_bytes = plan.parameters * SizeOf(DType::kBF16);
  const auto model =
      Llama::Create(*backend, config, AbsentWeights(config), {.positions_max = tokens + 1});
  CHECK(model.ok()) << model.status();
  plan.room_bytes = memory.bytes() - plan.weight_bytes;

  std::vector<std::unique_ptr<Adapter>> adapters;
  int64_t before = memory.bytes();
  for (const JobShape& job : jobs) {
    auto adapter = Adapter::Create(*backend, TargetsOf(config, job, tokens), /*trainable=*/true);
    CHECK(adapter.ok()) << adapter.status();
    adapters.push_back(*std::move(adapter));
  }
  plan.adapter_bytes = memory.bytes() - before;

  const WorkspaceSize size = SizeOfPass(config, jobs, tokens);
  before = memory.bytes();
  Workspace workspace(*backend, config);
  const absl::Status reserved = workspace.Reserve(size);
  CHECK(reserved.ok()) << reserved;
  plan.scratch_bytes = GpuScratchHeld(*backend);
  plan.activation_bytes = ActivationBytes(*backend, config, size);
  plan.layer_bytes = memory.bytes() - before - plan.scratch_bytes - plan.activation_bytes;
  plan.page_waste_bytes = memory.page_waste_bytes();
  CHECK_EQ(memory.bytes() - before, PassBytes(*backend, config, size))
      << "what a workspace holds is not what it says";

  WorkspaceSize further = size;
  further.rows += kFurtherTokens;
  further.labels += kFurtherTokens;
  const int64_t pass_bytes = PassBytes(*backend, config, size);
  plan.token_bytes =
      (PassBytes(*backend, config, further) - pass_bytes + kFurtherTokens - 1) / kFurtherTokens;
  const std::vector<LoraTarget> targets =
      TargetsOf(config, {.rank = kFurtherRank, .examples = 1}, tokens);
  further = size;
  ++further.segments;
  Widen(HiddenColumns(targets), &further);
  plan.job_bytes = Adapter::Bytes(*backend, targets, /*trainable=*/true) +
                   PassBytes(*backend, config, further) - pass_bytes;
  return plan;
}

}  // namespace deltaworks::trainer

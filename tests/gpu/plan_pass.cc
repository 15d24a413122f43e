#include "tests/gpu/plan_pass.h"

#include <memory>
#include <vector>

#include "glog/logging.h"
#include "tests/gpu/plan_memory.h"
#include "trainer/backend/cuda/gpu_backend.h"
#include "trainer/train/cohort.h"

namespace deltaworks::trainer {

CountedPass CountPass(const ModelConfig& config, absl::Span<const JobShape> jobs, int64_t tokens,
                      double dropout, const CardPeaks& peaks) {
  GpuMemory memory;
  const auto gpu_backend =
      NewGpuBackend(std::make_unique<NullGpu>(memory),
                    peaks.fp8_flops_per_second > 0 ? DType::kF8E4M3 : DType::kBF16,
                    /*finished=*/nullptr);
  CountingBackend backend(*gpu_backend, peaks);
  const auto model =
      Llama::Create(backend, config, AbsentWeights(config), {.positions_max = tokens + 1});
  CHECK(model.ok()) << model.status();
  const auto runs = NewRuns(**model, jobs, tokens, /*steps=*/1, dropout);
  std::vector<TrainingRun*> members;
  for (const auto& run : runs) members.push_back(run.get());
  backend.Clear();

  Cohort cohort(**model);
  const PassResult result = cohort.Pass(members);
  CHECK(result.status.ok()) << result.status;
  CountedPass pass;
  for (const RunTurn& turn : result.turns) pass.tokens += turn.tokens;
  for (const TrainingRun* run : members) CHECK(run->finished()) << run->status();
  pass.allocated_bytes = memory.peak_bytes();
  pass.counts = backend.counts();
  pass.sum = backend.sum();
  return pass;
}

}  // namespace deltaworks::trainer

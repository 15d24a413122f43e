// Shapes of known models, and jobs on them whose examples all have one length: what train_benchmark
// times and plan counts. Plain functions, thread-safe.

#ifndef DELTAWORKS_TESTS_GPU_MODEL_SHAPES_H_
#define DELTAWORKS_TESTS_GPU_MODEL_SHAPES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "trainer/model/config.h"
#include "trainer/model/llama.h"
#include "trainer/train/training_run.h"

namespace deltaworks::trainer {

inline constexpr char kModelNames[] = "smollm2-135m, llama-8b or llama-70b";

// The shape of Llama-3.1-8B or -70B or SmolLM2-135M, with `layers` layers if that is not 0. Another
// name is a CHECK failure.
ModelConfig ConfigNamed(const std::string& name, int64_t layers);

// A job that trains all linears; a step of it is one pass.
struct JobShape {
  int64_t rank = 0;
  int64_t examples = 0;  // Of a step.
};

// "RANK:EXAMPLES"; anything else is a CHECK failure.
JobShape ParseJob(const std::string& text);
std::vector<JobShape> ParseJobs(absl::Span<const std::string> texts);

// The run's config. Every example takes `tokens` rows of a pass.
TrainingConfig ConfigOf(const JobShape& job, int64_t tokens, int64_t steps, double dropout);

// Runs on random ids. The model's longest document has tokens + 1 at least.
std::vector<std::unique_ptr<TrainingRun>> NewRuns(const Llama& model,
                                                  absl::Span<const JobShape> jobs, int64_t tokens,
                                                  int64_t steps, double dropout);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_GPU_MODEL_SHAPES_H_

// One training pass of which only the operations are counted: the real runs, cohort and model, over
// a CountingBackend. It takes no memory but that of one adapter's numbers, and seconds at most.

#ifndef DELTAWORKS_TESTS_GPU_PLAN_PASS_H_
#define DELTAWORKS_TESTS_GPU_PLAN_PASS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/types/span.h"
#include "tests/gpu/model_shapes.h"
#include "tests/gpu/roofline.h"
#include "trainer/model/config.h"

namespace deltaworks::trainer {

struct CountedPass {
  int64_t tokens = 0;           // As a pass's metrics count them: one more than rows, by example.
  int64_t allocated_bytes = 0;  // The most that was held, from the model's loading on.
  std::map<std::string, OperationCount> counts;  // With the updates of all jobs.
  OperationCount sum;
};

// The jobs' first step. Their examples take `tokens` rows each.
CountedPass CountPass(const ModelConfig& config, absl::Span<const JobShape> jobs, int64_t tokens,
                      double dropout, const CardPeaks& peaks);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_GPU_PLAN_PASS_H_

// DecodeCase: a base, an adapter on it, and their merge, ready to decode on one backend; what the
// benchmark times and its test traces.
//
// Thread-compatible. Backend and base tensors must outlive it.

#ifndef DELTAWORKS_TESTS_BENCH_DECODE_DECODE_CASE_H_
#define DELTAWORKS_TESTS_BENCH_DECODE_DECODE_CASE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/backend/backend.h"
#include "trainer/generate/generator.h"
#include "trainer/lora/adapter.h"
#include "trainer/lora/merge.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/llama.h"

namespace deltaworks::trainer {

enum class DecodeMode { kBase, kMerged, kUnmerged };

struct DecodeRun {
  std::vector<int32_t> tokens;
  double decode_seconds = 0;  // Of the tokens after the first.

  double tokens_per_second() const {
    return static_cast<double>(tokens.size() - 1) / decode_seconds;
  }
};

class DecodeCase {
 public:
  // `positions_max`: of prompt and tokens together.
  static absl::StatusOr<std::unique_ptr<DecodeCase>> Create(Backend& backend,
                                                            const ModelConfig& config,
                                                            const TensorMap& base,
                                                            const PeftAdapter& adapter,
                                                            int64_t positions_max);

  // Greedy, without stop tokens, so that each mode decodes as many.
  absl::StatusOr<DecodeRun> Run(DecodeMode mode, const std::vector<int32_t>& prompt,
                                int64_t tokens);

  const MergedWeights& merged() const { return *merged_; }
  // From parsed numbers to a model that answers: what a switch to this adapter costs.
  double unmerged_switch_seconds() const { return unmerged_switch_seconds_; }
  double merged_switch_seconds() const { return merged_switch_seconds_; }

 private:
  DecodeCase() = default;

  std::unique_ptr<Llama> base_model_;
  std::unique_ptr<Adapter> adapter_;
  std::unique_ptr<MergedWeights> merged_;
  std::unique_ptr<Llama> merged_model_;
  double unmerged_switch_seconds_ = 0;
  double merged_switch_seconds_ = 0;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_BENCH_DECODE_DECODE_CASE_H_

// MergedWeights: a base with an adapter added in, W' = W + scale B A, for inference that costs what
// the base costs.
//
// The sum is computed in f32 and rounded once to the base's form. So W' differs from the exact sum
// by half a unit in its last place (2^-8 of its power of two in bf16, 2^-24 in f32), besides the
// f32 rounding of the product (R additions). merge_error() is what was met, measured in f64. Only
// the adapted matrices are copied; all others stay those of the base, which is never written.
// Immutable; the base's tensors must outlive it.

#ifndef DELTAWORKS_TRAINER_LORA_MERGE_H_
#define DELTAWORKS_TRAINER_LORA_MERGE_H_

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/formats/safetensors.h"
#include "trainer/lora/lora_config.h"

namespace deltaworks::trainer {

class MergedWeights {
 public:
  // `base`: by Hugging Face's names, matrices F32 or BF16. `values`: A and B as
  // Adapter::ReadParameters() gives them. InvalidArgument if a target has no tensor in `base`, or
  // of another shape or type.
  static absl::StatusOr<std::unique_ptr<MergedWeights>> Create(const TensorMap& base,
                                                               absl::Span<const LoraTarget> targets,
                                                               absl::Span<const float> values);

  // As many tensors, of the same names, shapes and types as the base's.
  const TensorMap& tensors() const { return tensors_; }

  // The largest |W' - (W + scale B A)| over all elements, in units of W' rounded down to a power of
  // two.
  double merge_error() const { return merge_error_; }

 private:
  MergedWeights() = default;

  TensorMap tensors_;
  std::deque<std::string> storage_;  // Addresses stay.
  double merge_error_ = 0;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_LORA_MERGE_H_

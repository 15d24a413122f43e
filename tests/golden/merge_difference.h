// What an adapter's logits may differ by when it is merged into its base instead of beside it.
//
// Merging rounds each adapted weight once more, to the base's form: by at most u of it, u = 2^-24
// (f32) or 2^-8 (bf16). The two passes themselves round, and not alike once their inputs differ.
//
//   A rounding changes a result by an independent relative error within [-u, u], of variance at
//   most u^2 / 3. A linear's rows sum such errors of all their weights in squares, so its output
//   has the same relative error as one weight. Norms, residuals and attention pass relative errors
//   on without enlarging them, so those of n roundings between embedding and logits add up in
//   squares too: a logit's error has a standard deviation of sqrt(n / 3) u, relative to the root
//   mean square of the logits.
//   n is the number of adapted linears, and twice the roundings of a pass:
//     f64    1, the answer's to f32
//     f32    K for each sum of K products; sums over positions are short beside those
//     bf16   15 a layer: seven linears, q and k turned, two norms, attention, SwiGLU, two
//            residuals; and the last norm. Sums are in f32, which does not count beside that
//
// No logit of some 10^5 is off by six standard deviations (the chance of one is 2e-9).

#ifndef DELTAWORKS_TESTS_GOLDEN_MERGE_DIFFERENCE_H_
#define DELTAWORKS_TESTS_GOLDEN_MERGE_DIFFERENCE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/formats/safetensors.h"
#include "trainer/lora/peft_format.h"
#include "trainer/model/config.h"

namespace deltaworks::trainer {

struct MergeDifference {
  double largest = 0;  // |merged - unmerged| of a logit.
  double bound = 0;    // As above.
  double adapter = 0;  // |unmerged - base| of a logit, the largest: what the adapter does at all.
};

// Of the logits at `positions` of one text. The base's matrices are all of one form.
MergeDifference MeasureMergeDifference(Backend& backend, const ModelConfig& config,
                                       const TensorMap& base, const PeftAdapter& adapter,
                                       absl::Span<const int32_t> ids,
                                       absl::Span<const int32_t> positions);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_GOLDEN_MERGE_DIFFERENCE_H_

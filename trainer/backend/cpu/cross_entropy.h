// Output layer, cross entropy and its gradient (backend.h has the contract), one tile of rows after
// the other: only the exponentials of one tile's logits exist at a time, in the compute type.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_CROSS_ENTROPY_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_CROSS_ENTROPY_H_

#include "trainer/backend/cpu/context.h"

namespace deltaworks::trainer {

void CrossEntropyInTiles(CpuContext& context, const ConstTensorView& weight,
                         const ConstTensorView& x, const ConstTensorView& labels,
                         const ConstTensorView& weights, const TensorView& losses,
                         const TensorView& dx);

// Of both, for `labels` rows and a vocabulary of `vocabulary` times `d`.
ScratchNeed CrossEntropyScratch(DType compute_type, int64_t labels, int64_t vocabulary, int64_t d);

void LogitsInPanels(CpuContext& context, const ConstTensorView& weight, const ConstTensorView& x,
                    const TensorView& logits);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_CROSS_ENTROPY_H_

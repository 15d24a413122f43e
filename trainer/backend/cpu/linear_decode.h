// Products for decoding outside of a group of linears.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_LINEAR_DECODE_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_LINEAR_DECODE_H_

#include "trainer/backend/cpu/linear_group.h"

namespace deltaworks::trainer {

// logits [L,V] f32 = x [L,D] weight [V,D]^T.
void LogitsForDecoding(CpuContext& context, const ConstTensorView& weight, const ConstTensorView& x,
                       const TensorView& logits);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_LINEAR_DECODE_H_

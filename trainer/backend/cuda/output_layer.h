// The output layer: logits, and their cross entropy with its gradient, some rows at a time
// (backend.h has the contract). How many at a time changes no row.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_OUTPUT_LAYER_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_OUTPUT_LAYER_H_

#include <cstdint>

#include "trainer/backend/cuda/linear_group.h"

namespace deltaworks::trainer::cuda {

void ComputeLogits(const Context& context, const PackedLinear& output, const ConstTensorView& x,
                   const TensorView& logits);
void ComputeCrossEntropy(const Context& context, const PackedLinear& output,
                         const ConstTensorView& x, const ConstTensorView& labels,
                         const ConstTensorView& weights, const TensorView& losses,
                         const TensorView& dx);

// An upper bound of the scratch of both.
int64_t OutputScratchBytes(DType type, const PassShape& pass);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_OUTPUT_LAYER_H_

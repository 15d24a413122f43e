// Linears that read the same few rows, on the decode path: W is read once, whatever the adapters
// are. Each row's adapter is applied to that row by kernels (kernels/adapters.h), where the batch
// path (linear_group.h) makes columns of it, which pays for many rows only.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_LINEAR_DECODE_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_LINEAR_DECODE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "trainer/backend/cuda/linear_group.h"

namespace deltaworks::trainer::cuda {

// Backend::LinearGroupForward on kDecode.
void DecodeLinears(const Context& context, Linears group, absl::Span<const Segment> segments,
                   const ConstTensorView& x, const TensorView& hidden,
                   absl::Span<const TensorView> y);

// An upper bound of its scratch.
int64_t DecodeLinearScratchBytes(DType type, bool fp8, const PassShape& pass);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_LINEAR_DECODE_H_

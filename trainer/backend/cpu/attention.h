// Attention over spans of the batch (backend.h has the contract; kernels/attention.cc the sums).
// Spans are taken some at a time, so that packed keys and values of many short ones, each filled up
// to whole blocks, need no more memory than those of a long one.
//
// Blocks of queries and keys are counted from the span's first row, so a row's bits depend on its
// span only. Backward computes each query head by itself, then adds the heads that share a key and
// value head in their order: no two tasks write to the same place.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_ATTENTION_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_ATTENTION_H_

#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/backend/cpu/context.h"

namespace deltaworks::trainer {

struct AttentionInputs {
  const AttentionShape& shape;
  absl::Span<const AttentionSpan> spans;
  const ConstTensorView& q;
  const ConstTensorView& k;
  const ConstTensorView& v;
};

void AttendForward(CpuContext& context, const AttentionInputs& in, const TensorView& out,
                   const TensorView& lse, ProductPath path);
void AttendBackward(CpuContext& context, const AttentionInputs& in, const ConstTensorView& out,
                    const ConstTensorView& lse, const ConstTensorView& dout, const TensorView& dq,
                    const TensorView& dk, const TensorView& dv);

ScratchNeed AttentionScratch(const PassShape& pass);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_ATTENTION_H_

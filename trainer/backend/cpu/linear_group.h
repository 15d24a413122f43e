// Linears that read the same input, with the adapters of their segments (backend.h has the
// contract). Work is cut into tasks of one panel of columns and some rows; how many rows does not
// change a bit. The rows of one segment within a task, or rows without adapters between two, are a
// piece.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_LINEAR_GROUP_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_LINEAR_GROUP_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/backend/cpu/context.h"
#include "trainer/backend/cpu/panel_sum.h"
#include "trainer/backend/philox.h"

namespace deltaworks::trainer {

// A view of the weight: nothing is packed.
class CpuFrozenLinear final : public FrozenLinear {
 public:
  explicit CpuFrozenLinear(ConstTensorView weight) : weight_(std::move(weight)) {}
  int64_t n() const override { return weight_.dim(0); }
  int64_t k() const override { return weight_.dim(1); }
  const ConstTensorView& weight() const { return weight_; }

 private:
  const ConstTensorView weight_;
};

// W, and its transpose, as right-hand sides.
inline RightSide RowsOf(const ConstTensorView& matrix) {
  return {matrix.data, matrix.dim(1), false};
}
inline RightSide TransposeOf(const ConstTensorView& matrix) {
  return {matrix.data, matrix.dim(1), true};
}

inline const ConstTensorView& WeightOf(const FrozenLinear& linear) {
  return static_cast<const CpuFrozenLinear&>(linear).weight();
}

using LinearGroup = absl::Span<const FrozenLinear* const>;

void ForwardInPanels(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                     const ConstTensorView& x, const TensorView& hidden,
                     absl::Span<const TensorView> y);
void ForwardForDecoding(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                        const ConstTensorView& x, const TensorView& hidden,
                        absl::Span<const TensorView> y);
void BackwardInPanels(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                      const ConstTensorView& x, const ConstTensorView& hidden,
                      absl::Span<const ConstTensorView> dy, const TensorView& dhidden,
                      const TensorView& dx);

// ---- Shared by the three ----

// Rows [begin, end) of the batch. Without a segment: rows that no segment has.
struct Piece {
  const Segment* segment = nullptr;
  int64_t begin = 0;
  int64_t end = 0;
};

// The pieces of rows [begin, end), ascending.
std::vector<Piece> PiecesOf(absl::Span<const Segment> segments, int64_t begin, int64_t end);

// First column in `hidden` of the segment's adapter of linear i.
int64_t HiddenColumn(const Segment& segment, int64_t linear);

// The A matrices of each segment one above the other, [hidden_width, K]: where they are, or copied
// to the operation's scratch. No data for a segment without adapters.
std::vector<ConstTensorView> StackedA(CpuContext& context, absl::Span<const Segment> segments,
                                      int64_t k);

DropoutMask MaskOf(const DropoutKey& key);

// Token number of a row of the batch.
inline uint32_t TokenOf(const Segment& segment, int64_t row) {
  return segment.dropout.token + static_cast<uint32_t>(row - segment.row_begin);
}

// What an adapter adds to a piece: a [rows of the batch, ...] from a_column on, times b.
struct PieceUpdate {
  ConstTensorView a;
  int64_t a_column = 0;
  RightSide b;
  int64_t depth = 0;    // 0: nothing.
  bool masked = false;  // By the segment's dropout.
};

// out[rows, columns] = round(the sum of `base` + the update of each row's piece). `base` is of row
// 0 of the batch; update(piece) is asked for pieces that have a segment.
void SumOfPieces(CpuContext& context, absl::Span<const PanelFactor> base,
                 absl::Span<const Piece> pieces,
                 absl::FunctionRef<PieceUpdate(const Segment&)> update, const ColumnRange& columns,
                 const TensorView& out, int worker, Workspace& scratch);

// Shapes, types and order of everything that forward and backward share.
// Of all paths.
ScratchNeed LinearScratch(DType compute_type, int threads, const PassShape& pass);

void CheckGroup(const CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                const ConstTensorView& x, const ConstTensorView& hidden);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_LINEAR_GROUP_H_

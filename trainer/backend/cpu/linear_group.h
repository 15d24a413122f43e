// Linears that read the same input, with the adapters of their segments (backend.h has the
// contract). How the work is cut, in all of them the same for every batch and number of threads:
//
//   tile     kTileRows rows of the batch, counted from its first row. For gradients of adapters, of
//            a segment, counted from the segment's first row.
//   panel    PanelWidth(N) columns of the output.
//   piece    the rows of one segment within one tile. Products run over whole tiles; a piece
//   selects
//            its rows from the result.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_LINEAR_GROUP_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_LINEAR_GROUP_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/backend/cpu/context.h"
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

inline const ConstTensorView& WeightOf(const FrozenLinear& linear) {
  return static_cast<const CpuFrozenLinear&>(linear).weight();
}

using LinearGroup = absl::Span<const FrozenLinear* const>;

void ForwardInTiles(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                    const ConstTensorView& x, const TensorView& hidden,
                    absl::Span<const TensorView> y);
void ForwardForDecoding(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                        const ConstTensorView& x, const TensorView& hidden,
                        absl::Span<const TensorView> y);
void BackwardInTiles(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                     const ConstTensorView& x, const ConstTensorView& hidden,
                     absl::Span<const ConstTensorView> dy, const TensorView& dhidden,
                     const TensorView& dx);

// ---- Shared by the three ----

// Rows [begin, end) of the batch: a segment's within a tile.
struct Piece {
  const Segment* segment = nullptr;
  int64_t begin = 0;
  int64_t end = 0;
};

// The pieces of each tile, ascending; segments without adapters have none.
std::vector<std::vector<Piece>> PiecesByTile(absl::Span<const Segment> segments, int64_t rows);

// First column in `hidden` of the segment's adapter of linear i.
int64_t HiddenColumn(const Segment& segment, int64_t linear);

// The A matrices of each segment one above the other, [hidden_width, K]: where they are, or copied
// to the operation's scratch. nullptr for a segment without adapters.
std::vector<const void*> StackedA(CpuContext& context, absl::Span<const Segment> segments,
                                  int64_t k);

DropoutMask MaskOf(const DropoutKey& key);

// Token number of a row of the batch.
inline uint32_t TokenOf(const Segment& segment, int64_t row) {
  return segment.dropout.token + static_cast<uint32_t>(row - segment.row_begin);
}

// Copies rows [begin, end), columns [column, column + width) of a matrix to out [end - begin,
// width].
void CopyBlock(const ConstTensorView& from, int64_t begin, int64_t end, int64_t column,
               int64_t width, void* out);

// Shapes, types and order of everything that forward and backward share.
void CheckGroup(const CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                const ConstTensorView& x, const ConstTensorView& hidden);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_LINEAR_GROUP_H_

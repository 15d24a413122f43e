#include "trainer/backend/cpu/linear_group.h"

#include <cstring>

#include "glog/logging.h"

namespace deltaworks::trainer {

std::vector<Piece> PiecesOf(absl::Span<const Segment> segments, int64_t begin, int64_t end) {
  std::vector<Piece> pieces;
  int64_t row = begin;
  for (const Segment& segment : segments) {
    const int64_t first = std::max(begin, segment.row_begin);
    const int64_t last = std::min(end, segment.row_end);
    if (first >= last || segment.hidden_width() == 0) continue;
    if (row < first) pieces.push_back({nullptr, row, first});
    pieces.push_back({&segment, first, last});
    row = last;
  }
  if (row < end) pieces.push_back({nullptr, row, end});
  return pieces;
}

int64_t HiddenColumn(const Segment& segment, int64_t linear) {
  int64_t column = 0;
  for (int64_t i = 0; i < linear; ++i) {
    if (segment.adapters[i] != nullptr) column += segment.adapters[i]->rank();
  }
  return column;
}

std::vector<ConstTensorView> StackedA(CpuContext& context, absl::Span<const Segment> segments,
                                      int64_t k) {
  std::vector<ConstTensorView> stacked;
  for (const Segment& segment : segments) {
    std::vector<const LoraPair*> pairs;
    for (const LoraPair* pair : segment.adapters) {
      if (pair != nullptr) pairs.push_back(pair);
    }
    const std::vector<int64_t> shape = {segment.hidden_width(), k};
    if (pairs.size() < 2) {
      stacked.emplace_back(pairs.empty() ? nullptr : pairs[0]->a.data, context.compute_type, shape);
      continue;
    }
    char* to = context.shared.Get<char>(segment.hidden_width() * k * SizeOf(context.compute_type));
    stacked.emplace_back(to, context.compute_type, shape);
    for (const LoraPair* pair : pairs) {
      std::memcpy(to, pair->a.data, pair->a.bytes());
      to += pair->a.bytes();
    }
  }
  return stacked;
}

DropoutMask MaskOf(const DropoutKey& key) {
  DropoutMask mask;
  mask.seed = key.seed;
  mask.step = key.step;
  mask.site = key.site;
  mask.threshold = DropoutThreshold(key.p);
  mask.kept_scale = static_cast<float>(1.0 / (1.0 - static_cast<double>(key.p)));
  return mask;
}

namespace {

// A piece whose base part is done: `base` [rows, columns].
void UpdatePiece(CpuContext& context, const Piece& piece, const PieceUpdate& update,
                 const float* base, const ColumnRange& columns, const TensorView& out, int worker,
                 Workspace& scratch) {
  const int64_t rows = piece.end - piece.begin;
  const int64_t width = columns.width;
  if (update.depth == 0) {
    for (int64_t i = 0; i < rows; ++i) {
      context.kernels.round(base + i * width, ElementAt(out, piece.begin + i, columns.begin),
                            width);
    }
    return;
  }
  std::vector<PanelFactor> factors;
  AppendFactors(*context.products, update.a, piece.begin, update.a_column, update.b, update.depth,
                columns, scratch, factors);
  PanelSum sum = {.rows = rows, .columns = width};
  if (!update.masked) {
    sum.initial = base;
    sum.initial_row = width;
    sum.rounded = ElementAt(out, piece.begin, columns.begin);
    sum.out_row = out.dim(1);
    RunSum(*context.products, worker, factors, sum, scratch);
    return;
  }
  sum.sums = scratch.Get<float>(rows * width);
  sum.out_row = width;
  RunSum(*context.products, worker, factors, sum, scratch);
  const DropoutMask mask = MaskOf(piece.segment->dropout);
  for (int64_t i = 0; i < rows; ++i) {
    context.kernels.add_masked_round(base + i * width, sum.sums + i * width, mask,
                                     TokenOf(*piece.segment, piece.begin + i), columns.begin,
                                     ElementAt(out, piece.begin + i, columns.begin), width);
  }
}

}  // namespace

void SumOfPieces(CpuContext& context, absl::Span<const PanelFactor> base,
                 absl::Span<const Piece> pieces,
                 absl::FunctionRef<PieceUpdate(const Segment&)> update, const ColumnRange& columns,
                 const TensorView& out, int worker, Workspace& scratch) {
  const int64_t begin = pieces.front().begin;
  std::vector<PanelFactor> factors = AtRow(base, begin, SizeOf(context.compute_type));
  PanelSum sum = {.rows = pieces.back().end - begin, .columns = columns.width};
  const auto update_of = [&](const Piece& piece) {
    return piece.segment == nullptr ? PieceUpdate() : update(*piece.segment);
  };
  if (pieces.size() == 1) {
    const PieceUpdate only = update_of(pieces[0]);
    if (!only.masked) {
      // One chain, which never leaves the registers.
      if (only.depth > 0) {
        AppendFactors(*context.products, only.a, begin, only.a_column, only.b, only.depth, columns,
                      scratch, factors);
      }
      sum.rounded = ElementAt(out, begin, columns.begin);
      sum.out_row = out.dim(1);
      RunSum(*context.products, worker, factors, sum, scratch);
      return;
    }
  }
  sum.sums = scratch.Get<float>(sum.rows * columns.width);
  sum.out_row = columns.width;
  RunSum(*context.products, worker, factors, sum, scratch);
  for (const Piece& piece : pieces) {
    UpdatePiece(context, piece, update_of(piece), sum.sums + (piece.begin - begin) * columns.width,
                columns, out, worker, scratch);
  }
}

void CheckGroup(const CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                const ConstTensorView& x, const ConstTensorView& hidden) {
  CHECK(!group.empty());
  const int64_t rows = x.dim(0);
  const int64_t k = x.dim(1);
  CheckTensor(x, context.compute_type, {rows, k}, "x");
  for (const FrozenLinear* linear : group) CHECK_EQ(linear->k(), k) << "K of a linear and of x";
  int64_t row = 0;
  for (const Segment& segment : segments) {
    CHECK(row <= segment.row_begin && segment.row_begin <= segment.row_end &&
          segment.row_end <= rows)
        << "segment is rows " << segment.row_begin << " to " << segment.row_end << ", want within "
        << row << " to " << rows;
    row = segment.row_end;
    CHECK_EQ(segment.adapters.size(), group.size()) << "adapters of a segment";
    CHECK(segment.dropout.p >= 0 && segment.dropout.p < 1)
        << "dropout is " << segment.dropout.p << ", want 0 <= p < 1";
    for (size_t i = 0; i < group.size(); ++i) {
      const LoraPair* pair = segment.adapters[i];
      if (pair == nullptr) continue;
      CHECK_GE(pair->rank(), 1);
      CheckTensor(pair->a, context.compute_type, {pair->rank(), k}, "A");
      CheckTensor(pair->b, context.compute_type, {group[i]->n(), pair->rank()}, "B");
    }
    if (segment.hidden_width() == 0) continue;
    CHECK_GE(hidden.dim(1), segment.hidden_width()) << "columns of hidden";
    CheckTensor(hidden, context.compute_type, {rows, hidden.dim(1)}, "hidden");
  }
}

ScratchNeed LinearScratch(DType compute_type, int threads, const PassShape& pass) {
  constexpr int64_t kFloat = sizeof(float);
  const int64_t element = SizeOf(compute_type);
  const int64_t rows = pass.rows, hidden = pass.hidden, segments = std::min(pass.segments, rows);
  // Allocations are rounded up, and a factor deeper than a Run is several.
  const int64_t base = PanelBytes(pass.features + pass.features / Products::kDepthMax + 2);
  const int64_t column_bytes = rows * kPanelColumns * kFloat;
  const int64_t hidden_panels = hidden / kPanelColumns + 1;

  ScratchNeed need;
  // Several A of a segment are one: of linears that read the residual stream.
  need.shared = segments * (hidden * pass.width * element + 64);
  if (pass.training) {
    // hidden of each linear and dhidden, transposed tile by tile.
    const int64_t tiles = rows / Products::kTokenTile + segments;
    const int64_t blocks = (hidden_panels + 3) + hidden_panels;
    need.shared += blocks * PanelBytes(rows + 33 * tiles);
  }
  // Outputs and gradients of inputs: sums of the base and of pieces, dropped or deep.
  const int64_t output = base + segments * (PanelBytes(hidden + 1) + 64) + 4 * column_bytes;
  const int64_t part = SinglePanelRowsMax(threads, rows);
  const int64_t hidden_forward =
      part * (pass.features * element + (hidden + kPanelColumns) * kFloat) + base;
  need.worker = std::max(output, hidden_forward);
  if (pass.training) {
    const int64_t hidden_backward = rows * hidden * kFloat + column_bytes + base;
    const int64_t token_sums = hidden * kPanelColumns * kFloat +
                               PanelBytes(rows + 2 * (rows / Products::kTokenTile + 1)) +
                               rows * kPanelColumns * element;
    need.worker = std::max({need.worker, hidden_backward, token_sums});
  }
  return need;
}

}  // namespace deltaworks::trainer

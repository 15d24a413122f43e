#include "trainer/backend/cpu/linear_group.h"

namespace deltaworks::trainer {
namespace {

struct ForwardCall {
  CpuContext& context;
  LinearGroup group;
  absl::Span<const Segment> segments;
  const ConstTensorView& x;
  const TensorView& hidden;
  absl::Span<const TensorView> y;
  std::vector<ConstTensorView> stacked_a;

  int64_t rows() const { return x.dim(0); }
  int64_t k() const { return x.dim(1); }
};

// The rows of x that the adapters of a piece see, [rows of the piece, K].
ConstTensorView DroppedRows(const ForwardCall& call, const Piece& piece, Workspace& scratch) {
  const Segment& segment = *piece.segment;
  const std::vector<int64_t> shape = {piece.end - piece.begin, call.k()};
  if (segment.dropout.p == 0) {
    return ConstTensorView(ElementAt(call.x, piece.begin, 0), call.x.dtype, shape);
  }
  TensorView dropped = {nullptr, call.x.dtype, shape};
  dropped.data = scratch.Bytes(dropped.bytes());
  const DropoutMask mask = MaskOf(segment.dropout);
  for (int64_t row = piece.begin; row < piece.end; ++row) {
    call.context.kernels.drop(ElementAt(call.x, row, 0), mask, TokenOf(segment, row),
                              /*feature=*/0, ElementAt(dropped, row - piece.begin, 0), call.k());
  }
  return ConstTensorView(dropped.data, dropped.dtype, shape);
}

// hidden[piece] = scale * drop(x[piece]) A^T for all adapters of the segment at once.
void HiddenOfPiece(const ForwardCall& call, const Piece& piece, int worker, Workspace& scratch) {
  const Segment& segment = *piece.segment;
  const ConstTensorView x = DroppedRows(call, piece, scratch);
  const ConstTensorView& a = call.stacked_a[&segment - call.segments.data()];
  const int64_t rows = piece.end - piece.begin;
  const int64_t width = a.dim(0);
  float* const out = scratch.Get<float>(rows * width);
  const Workspace::Place mark = scratch.Mark();
  for (const ColumnRange& panel : PanelsOf(width)) {
    scratch.Rewind(mark);
    std::vector<PanelFactor> factors;
    AppendFactors(*call.context.products, x, 0, 0, TransposeOf(a), call.k(), panel, scratch,
                  factors);
    RunSum(*call.context.products, worker, factors,
           {.rows = rows, .columns = panel.width, .sums = out + panel.begin, .out_row = width},
           scratch);
  }
  for (int64_t i = 0; i < rows; ++i) {
    const float* from = out + i * width;
    int64_t column = 0;
    for (const LoraPair* pair : segment.adapters) {
      if (pair == nullptr) continue;
      call.context.kernels.scale_round(from + column, pair->scale,
                                       ElementAt(call.hidden, piece.begin + i, column),
                                       pair->rank());
      column += pair->rank();
    }
  }
}

struct OutputPanel {
  int64_t linear = 0;
  ColumnRange columns;
};

std::vector<OutputPanel> OutputPanels(const ForwardCall& call) {
  std::vector<OutputPanel> panels;
  for (int64_t i = 0; i < call.group.size(); ++i) {
    for (const ColumnRange& columns : PanelsOf(call.group[i]->n())) {
      panels.push_back({i, columns});
    }
  }
  return panels;
}

// y = round(x W^T + hidden B^T) on rows [begin, end) of a panel.
void Output(const ForwardCall& call, const OutputPanel& panel, int64_t begin, int64_t end,
            int worker, Workspace& scratch) {
  const ConstTensorView& weight = WeightOf(*call.group[panel.linear]);
  std::vector<PanelFactor> base;
  AppendFactors(*call.context.products, call.x, 0, 0, TransposeOf(weight), call.k(), panel.columns,
                scratch, base);
  const auto update = [&](const Segment& segment) {
    const LoraPair* pair = segment.adapters[panel.linear];
    if (pair == nullptr) return PieceUpdate();
    return PieceUpdate{.a = call.hidden,
                       .a_column = HiddenColumn(segment, panel.linear),
                       .b = TransposeOf(pair->b),
                       .depth = pair->rank()};
  };
  SumOfPieces(call.context, base, PiecesOf(call.segments, begin, end), update, panel.columns,
              call.y[panel.linear], worker, scratch);
}

}  // namespace

void ForwardInPanels(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                     const ConstTensorView& x, const TensorView& hidden,
                     absl::Span<const TensorView> y) {
  const ForwardCall call = {
      context, group, segments, x, hidden, y, StackedA(context, segments, x.dim(1))};
  std::vector<Piece> pieces;
  for (const PanelTask& task : TasksOf(context, /*panels=*/1, x.dim(0))) {
    for (const Piece& piece : PiecesOf(segments, task.begin, task.end)) {
      if (piece.segment != nullptr) pieces.push_back(piece);
    }
  }
  context.ForTasks(pieces.size(), [&](int64_t i, int worker, Workspace& scratch) {
    HiddenOfPiece(call, pieces[i], worker, scratch);
  });
  const std::vector<OutputPanel> panels = OutputPanels(call);
  const std::vector<PanelTask> tasks = TasksOf(context, panels.size(), x.dim(0));
  context.ForTasks(tasks.size(), [&](int64_t i, int worker, Workspace& scratch) {
    Output(call, panels[tasks[i].panel], tasks[i].begin, tasks[i].end, worker, scratch);
  });
}

}  // namespace deltaworks::trainer

#include <cstring>
#include <functional>

#include "trainer/backend/cpu/linear_group.h"

namespace deltaworks::trainer {
namespace {

// The transpose of some columns of a tensor of a segment's rows, prepared once for all sums over
// tokens that have it on the left: [first row block][token tile].
struct TransposedRows {
  int64_t width = 0;
  std::vector<std::vector<const void*>> blocks;  // Of kPanelColumns columns each.
};

struct BackwardCall {
  CpuContext& context;
  LinearGroup group;
  absl::Span<const Segment> segments;
  const ConstTensorView& x;
  const ConstTensorView& hidden;
  absl::Span<const ConstTensorView> dy;
  const TensorView& dhidden;
  const TensorView& dx;
  std::vector<ConstTensorView> stacked_a;
  std::vector<std::vector<TransposedRows>> hidden_transposed;  // Of each segment and linear.
  std::vector<TransposedRows> dhidden_transposed;              // Of each segment.

  const Products& products() const { return *context.products; }
  int64_t rows() const { return x.dim(0); }
  int64_t k() const { return x.dim(1); }
  int64_t element_bytes() const { return SizeOf(context.compute_type); }
};

TransposedRows Transpose(const CpuContext& context, const Segment& segment,
                         const ConstTensorView& from, int64_t column, int64_t width,
                         Workspace& scratch) {
  TransposedRows result{.width = width};
  for (int64_t first = 0; first < width; first += kPanelColumns) {
    const int64_t columns = std::min(kPanelColumns, width - first);
    std::vector<const void*>& tiles = result.blocks.emplace_back();
    for (int64_t begin = segment.row_begin; begin < segment.row_end;
         begin += Products::kTokenTile) {
      tiles.push_back(context.products->PrepareTransposed(
          ElementAt(from, begin, column + first), from.dim(1),
          std::min(Products::kTokenTile, segment.row_end - begin), columns, scratch));
    }
  }
  return result;
}

// dhidden[piece] = scale * dy B for one linear.
void HiddenGradient(const BackwardCall& call, const Piece& piece, int64_t linear, int worker,
                    Workspace& scratch) {
  const LoraPair& pair = *piece.segment->adapters[linear];
  const int64_t rank = pair.rank();
  const int64_t rows = piece.end - piece.begin;
  float* const out = scratch.Get<float>(rows * rank);
  const Workspace::Place mark = scratch.Mark();
  for (const ColumnRange& panel : PanelsOf(rank)) {
    scratch.Rewind(mark);
    std::vector<PanelFactor> factors;
    AppendFactors(call.products(), call.dy[linear], piece.begin, 0, RowsOf(pair.b),
                  call.group[linear]->n(), panel, scratch, factors);
    RunSum(*call.context.products, worker, factors,
           {.rows = rows, .columns = panel.width, .sums = out + panel.begin, .out_row = rank},
           scratch);
  }
  const int64_t column = HiddenColumn(*piece.segment, linear);
  for (int64_t i = 0; i < rows; ++i) {
    call.context.kernels.scale_round(out + i * rank, pair.scale,
                                     ElementAt(call.dhidden, piece.begin + i, column), rank);
  }
}

// The sum over a segment's tokens t of left[t]^T right[t], on some columns of `right`: one chain in
// the order of the tokens. Rows of other segments take no part, not even times zero.
struct TokenSum {
  const BackwardCall& call;
  const Segment& segment;
  const TransposedRows& left;
  const ConstTensorView& right;  // [T,N], dropped first if `drops`.
  bool drops;
  ColumnRange columns;

  // Returns [left.width, columns.width].
  const float* Compute(int worker, Workspace& scratch) const {
    const int64_t width = columns.width;
    constexpr int64_t kTile = Products::kTokenTile;
    float* const sums = scratch.Get<float>(left.width * width);
    for (int64_t begin = segment.row_begin; begin < segment.row_end; begin += kTile) {
      const int64_t tokens = std::min(kTile, segment.row_end - begin);
      const void* const panel = RightPanel(begin, tokens, scratch);
      for (size_t block = 0; block < left.blocks.size(); ++block) {
        const int64_t row = static_cast<int64_t>(block) * kPanelColumns;
        const PanelFactor factor = {.a = left.blocks[block][(begin - segment.row_begin) / kTile],
                                    .a_prepared = true,
                                    .panel = panel,
                                    .depth = tokens};
        PanelSum sum = {.factors = {&factor, 1},
                        .rows = std::min(kPanelColumns, left.width - row),
                        .columns = width};
        sum.sums = sums + row * width;
        sum.out_row = width;
        if (begin > segment.row_begin) {
          sum.initial = sum.sums;
          sum.initial_row = width;
        }
        call.context.products->Run(worker, sum);
      }
    }
    return sums;
  }

 private:
  const void* RightPanel(int64_t begin, int64_t tokens, Workspace& scratch) const {
    if (!drops) {
      return call.products().Prepare(RowsOf(right), begin, tokens, columns.begin, columns.width,
                                     scratch);
    }
    const int64_t row_bytes = columns.width * call.element_bytes();
    char* const rows = scratch.Get<char>(tokens * row_bytes);
    const DropoutMask mask = MaskOf(segment.dropout);
    for (int64_t i = 0; i < tokens; ++i) {
      call.context.kernels.drop(ElementAt(right, begin + i, columns.begin), mask,
                                TokenOf(segment, begin + i), columns.begin, rows + i * row_bytes,
                                columns.width);
    }
    return call.products().Prepare({rows, columns.width, false}, 0, tokens, 0, columns.width,
                                   scratch);
  }
};

// db += dy^T hidden on some columns of y: computed transposed.
void AddGradientOfB(const BackwardCall& call, int64_t segment_index, int64_t linear,
                    const ColumnRange& columns, int worker, Workspace& scratch) {
  const Segment& segment = call.segments[segment_index];
  const LoraPair& pair = *segment.adapters[linear];
  const int64_t rank = pair.rank();
  const TokenSum sum = {.call = call,
                        .segment = segment,
                        .left = call.hidden_transposed[segment_index][linear],
                        .right = call.dy[linear],
                        .drops = false,
                        .columns = columns};
  const float* const transposed = sum.Compute(worker, scratch);
  float* const db = pair.db.as<float>() + columns.begin * rank;
  for (int64_t j = 0; j < columns.width; ++j) {
    for (int64_t r = 0; r < rank; ++r) db[j * rank + r] += transposed[r * columns.width + j];
  }
}

// da += dhidden^T drop(x) on some columns of x, for all adapters of a segment.
void AddGradientOfA(const BackwardCall& call, int64_t segment_index, const ColumnRange& columns,
                    int worker, Workspace& scratch) {
  const Segment& segment = call.segments[segment_index];
  const TokenSum sum = {.call = call,
                        .segment = segment,
                        .left = call.dhidden_transposed[segment_index],
                        .right = call.x,
                        .drops = segment.dropout.p > 0,
                        .columns = columns};
  const float* row = sum.Compute(worker, scratch);
  for (const LoraPair* pair : segment.adapters) {
    if (pair == nullptr) continue;
    for (int64_t r = 0; r < pair->rank(); ++r, row += columns.width) {
      call.context.kernels.accumulate(row, pair->da.as<float>() + r * call.k() + columns.begin,
                                      columns.width);
    }
  }
}

// dx = round(sum over linears of dy W + mask(dhidden A)) on some rows and columns.
void InputGradient(const BackwardCall& call, int64_t begin, int64_t end, const ColumnRange& columns,
                   int worker, Workspace& scratch) {
  std::vector<PanelFactor> base;
  for (int64_t i = 0; i < call.group.size(); ++i) {
    AppendFactors(call.products(), call.dy[i], 0, 0, RowsOf(WeightOf(*call.group[i])),
                  call.group[i]->n(), columns, scratch, base);
  }
  const auto update = [&](const Segment& segment) {
    const ConstTensorView& a = call.stacked_a[&segment - call.segments.data()];
    return PieceUpdate{.a = call.dhidden,
                       .a_column = 0,
                       .b = RowsOf(a),
                       .depth = a.dim(0),
                       .masked = segment.dropout.p > 0};
  };
  SumOfPieces(call.context, base, PiecesOf(call.segments, begin, end), update, columns, call.dx,
              worker, scratch);
}

using Task = std::function<void(int worker, Workspace& scratch)>;

void RunTasks(CpuContext& context, const std::vector<Task>& tasks) {
  context.ForTasks(tasks.size(), [&](int64_t task, int worker, Workspace& scratch) {
    tasks[task](worker, scratch);
  });
}

bool HasRows(const Segment& segment) {
  return segment.row_begin < segment.row_end && segment.hidden_width() > 0;
}

// dhidden and the gradients of B: nothing here waits for another.
std::vector<Task> FirstTasks(BackwardCall& call) {
  std::vector<Task> tasks;
  for (const PanelTask& task : TasksOf(call.context, call.group.size(), call.rows())) {
    for (const Piece& piece : PiecesOf(call.segments, task.begin, task.end)) {
      const int64_t i = task.panel;
      if (piece.segment == nullptr || piece.segment->adapters[i] == nullptr) continue;
      tasks.push_back([&call, piece, i](int worker, Workspace& scratch) {
        HiddenGradient(call, piece, i, worker, scratch);
      });
    }
  }
  for (int64_t s = 0; s < call.segments.size(); ++s) {
    const Segment& segment = call.segments[s];
    std::vector<TransposedRows>& transposed = call.hidden_transposed.emplace_back();
    for (int64_t i = 0; i < call.group.size(); ++i) {
      transposed.emplace_back();
      if (!HasRows(segment) || segment.adapters[i] == nullptr) continue;
      transposed.back() = Transpose(call.context, segment, call.hidden, HiddenColumn(segment, i),
                                    segment.adapters[i]->rank(), call.context.shared);
      for (const ColumnRange& columns : PanelsOf(call.group[i]->n())) {
        tasks.push_back([&call, s, i, columns](int worker, Workspace& scratch) {
          AddGradientOfB(call, s, i, columns, worker, scratch);
        });
      }
    }
  }
  return tasks;
}

// dx and the gradients of A: they read dhidden.
std::vector<Task> SecondTasks(BackwardCall& call) {
  std::vector<Task> tasks;
  const std::vector<ColumnRange> panels = PanelsOf(call.k());
  if (call.dx.data != nullptr) {
    for (const auto& [panel, begin, end] :
         TasksOf(call.context, static_cast<int64_t>(panels.size()), call.rows())) {
      const ColumnRange columns = panels[panel];
      tasks.push_back([&call, begin = begin, end = end, columns](int worker, Workspace& scratch) {
        InputGradient(call, begin, end, columns, worker, scratch);
      });
    }
  }
  for (int64_t s = 0; s < call.segments.size(); ++s) {
    const Segment& segment = call.segments[s];
    call.dhidden_transposed.emplace_back();
    if (!HasRows(segment)) continue;
    call.dhidden_transposed.back() = Transpose(call.context, segment, call.dhidden, 0,
                                               segment.hidden_width(), call.context.shared);
    for (const ColumnRange& columns : panels) {
      tasks.push_back([&call, s, columns](int worker, Workspace& scratch) {
        AddGradientOfA(call, s, columns, worker, scratch);
      });
    }
  }
  return tasks;
}

}  // namespace

void BackwardInPanels(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                      const ConstTensorView& x, const ConstTensorView& hidden,
                      absl::Span<const ConstTensorView> dy, const TensorView& dhidden,
                      const TensorView& dx) {
  BackwardCall call = {
      context, group, segments, x, hidden, dy, dhidden, dx, StackedA(context, segments, x.dim(1)),
      {},      {}};
  RunTasks(context, FirstTasks(call));
  RunTasks(context, SecondTasks(call));
}

}  // namespace deltaworks::trainer

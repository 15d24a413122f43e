#include <cstring>
#include <functional>

#include "trainer/backend/cpu/linear_group.h"

namespace deltaworks::trainer {
namespace {

struct BackwardCall {
  CpuContext& context;
  LinearGroup group;
  absl::Span<const Segment> segments;
  const ConstTensorView& x;
  const ConstTensorView& hidden;
  absl::Span<const ConstTensorView> dy;
  const TensorView& dhidden;
  const TensorView& dx;
  std::vector<const void*> stacked_a;

  int64_t rows() const { return x.dim(0); }
  int64_t k() const { return x.dim(1); }
  int64_t element_bytes() const { return SizeOf(context.compute_type); }
};

// dhidden[piece] = scale * dy B for one linear.
void HiddenGradient(const BackwardCall& call, const Piece& piece, int64_t linear, int worker,
                    Workspace& scratch) {
  const LoraPair& pair = *piece.segment->adapters[linear];
  const int64_t n = call.group[linear]->n();
  const int64_t rank = pair.rank();
  const int64_t tile_begin = piece.begin / kTileRows * kTileRows;
  float* out = scratch.Get<float>(kTileRows * rank);
  call.context.products.Get(Times(rank, n, n, rank, rank))
      .Run(worker, ElementAt(call.dy[linear], tile_begin, 0), pair.b.data, out);
  const int64_t column = HiddenColumn(*piece.segment, linear);
  for (int64_t row = piece.begin; row < piece.end; ++row) {
    call.context.kernels.scale_round(out + (row - tile_begin) * rank, pair.scale,
                                     ElementAt(call.dhidden, row, column), rank);
  }
}

// Columns [column, column + width) of the sum over a segment's tokens t of left[t]^T right[t], in
// tiles counted from the segment's first row. The last tile is copied and padded with zeros: rows
// of other segments take no part, not even times zero.
struct TokenSum {
  const BackwardCall& call;
  const Segment& segment;
  const ConstTensorView left;  // [T,H]: columns [left_column, left_column + left_width).
  int64_t left_column;
  int64_t left_width;
  const ConstTensorView right;  // [T,N], dropped first if `drops`.
  bool drops;
  int64_t column;
  int64_t width;

  // Returns [left_width, width].
  float* Compute(int worker, Workspace& scratch) const {
    float* sum = scratch.Get<float>(left_width * width);
    char* left_tile = scratch.Get<char>(kTileRows * left_width * call.element_bytes());
    char* right_tile = scratch.Get<char>(kTileRows * width * call.element_bytes());
    for (int64_t begin = segment.row_begin; begin < segment.row_end; begin += kTileRows) {
      const int64_t end = std::min(segment.row_end, begin + kTileRows);
      const bool whole = end - begin == kTileRows;
      CopyPadded(left, begin, end, left_column, left_width, left_tile);
      if (!whole || drops) FillRightTile(begin, end, right_tile);
      const bool in_place = whole && !drops;
      ProductShape shape =
          TransposedTimes(left_width, width, in_place ? right.dim(1) : width, width);
      shape.accumulate = begin != segment.row_begin;
      call.context.products.Get(shape).Run(
          worker, left_tile, in_place ? ElementAt(right, begin, column) : right_tile, sum);
    }
    return sum;
  }

 private:
  void CopyPadded(const ConstTensorView& from, int64_t begin, int64_t end, int64_t first,
                  int64_t columns, char* to) const {
    CopyBlock(from, begin, end, first, columns, to);
    const int64_t row_bytes = columns * call.element_bytes();
    std::memset(to + (end - begin) * row_bytes, 0, (kTileRows - (end - begin)) * row_bytes);
  }

  void FillRightTile(int64_t begin, int64_t end, char* to) const {
    CopyPadded(right, begin, end, column, width, to);
    if (!drops) return;
    const DropoutMask mask = MaskOf(segment.dropout);
    for (int64_t row = begin; row < end; ++row) {
      call.context.kernels.drop(ElementAt(right, row, column), mask, TokenOf(segment, row), column,
                                to + (row - begin) * width * call.element_bytes(), width);
    }
  }
};

// db += scale * dy^T hidden, for the columns [column, column + width) of y.
void AddGradientOfB(const BackwardCall& call, const Segment& segment, int64_t linear,
                    int64_t column, int64_t width, int worker, Workspace& scratch) {
  const LoraPair& pair = *segment.adapters[linear];
  const int64_t rank = pair.rank();
  const TokenSum sum = {.call = call,
                        .segment = segment,
                        .left = call.hidden,
                        .left_column = HiddenColumn(segment, linear),
                        .left_width = rank,
                        .right = call.dy[linear],
                        .drops = false,
                        .column = column,
                        .width = width};
  const float* transposed = sum.Compute(worker, scratch);
  float* const db = pair.db.as<float>();
  for (int64_t j = 0; j < width; ++j) {
    float* const row = db + (column + j) * rank;
    for (int64_t r = 0; r < rank; ++r) row[r] += pair.scale * transposed[r * width + j];
  }
}

// da += dhidden^T drop(x), for the columns [column, column + width) of x, all adapters of a
// segment.
void AddGradientOfA(const BackwardCall& call, const Segment& segment, int64_t column, int64_t width,
                    int worker, Workspace& scratch) {
  const TokenSum sum = {.call = call,
                        .segment = segment,
                        .left = call.dhidden,
                        .left_column = 0,
                        .left_width = segment.hidden_width(),
                        .right = call.x,
                        .drops = segment.dropout.p > 0,
                        .column = column,
                        .width = width};
  const float* row = sum.Compute(worker, scratch);
  for (const LoraPair* pair : segment.adapters) {
    if (pair == nullptr) continue;
    for (int64_t r = 0; r < pair->rank(); ++r, row += width) {
      call.context.kernels.accumulate(row, 1.0f, pair->da.as<float>() + r * call.k() + column,
                                      width);
    }
  }
}

// dx[piece] = round(base + mask(dhidden A)) on the columns [column, column + width).
void AdaptedInputGradient(const BackwardCall& call, const Piece& piece, int64_t tile_begin,
                          int64_t column, int64_t width, const float* base, int worker,
                          Workspace& scratch) {
  const Segment& segment = *piece.segment;
  const int64_t hidden_width = segment.hidden_width();
  char* gradient = scratch.Get<char>(kTileRows * hidden_width * call.element_bytes());
  CopyBlock(call.dhidden, piece.begin, piece.end, 0, hidden_width,
            gradient + (piece.begin - tile_begin) * hidden_width * call.element_bytes());
  float* update = scratch.Get<float>(kTileRows * width);
  const void* a = call.stacked_a[&segment - call.segments.data()];
  call.context.products.Get(Times(width, hidden_width, hidden_width, call.k(), width))
      .Run(worker, gradient, static_cast<const char*>(a) + column * call.element_bytes(), update);
  const DropoutMask mask = MaskOf(segment.dropout);
  for (int64_t row = piece.begin; row < piece.end; ++row) {
    const int64_t offset = (row - tile_begin) * width;
    void* const out = ElementAt(call.dx, row, column);
    if (segment.dropout.p > 0) {
      call.context.kernels.add_masked_round(base + offset, update + offset, mask,
                                            TokenOf(segment, row), column, out, width);
    } else {
      call.context.kernels.add_scaled_round(base + offset, update + offset, 1.0f, out, width);
    }
  }
}

void InputGradient(const BackwardCall& call, int64_t tile, int64_t column, int64_t width,
                   absl::Span<const Piece> pieces, int worker, Workspace& scratch) {
  const int64_t tile_begin = tile * kTileRows;
  const int64_t tile_end = std::min(call.rows(), tile_begin + kTileRows);
  float* base = scratch.Get<float>(kTileRows * width);
  for (int64_t i = 0; i < call.group.size(); ++i) {
    const ConstTensorView& weight = WeightOf(*call.group[i]);
    const int64_t n = weight.dim(0);
    ProductShape shape = Times(width, n, n, call.k(), width);
    shape.accumulate = i > 0;
    call.context.products.Get(shape).Run(worker, ElementAt(call.dy[i], tile_begin, 0),
                                         ElementAt(weight, 0, column), base);
  }
  const auto plain_rows = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      call.context.kernels.round(base + (row - tile_begin) * width, ElementAt(call.dx, row, column),
                                 width);
    }
  };
  int64_t row = tile_begin;
  for (const Piece& piece : pieces) {
    plain_rows(row, piece.begin);
    AdaptedInputGradient(call, piece, tile_begin, column, width, base, worker, scratch);
    row = piece.end;
  }
  plain_rows(row, tile_end);
}

using Task = std::function<void(int worker, Workspace& scratch)>;

void RunTasks(CpuContext& context, const std::vector<Task>& tasks) {
  context.ForTasks(tasks.size(), [&](int64_t task, int worker, Workspace& scratch) {
    tasks[task](worker, scratch);
  });
}

// dhidden and the gradients of B: nothing here waits for another.
void AddFirstTasks(const BackwardCall& call, const std::vector<std::vector<Piece>>& by_tile,
                   std::vector<Task>& tasks) {
  for (const auto& pieces : by_tile) {
    for (const Piece& piece : pieces) {
      for (int64_t i = 0; i < call.group.size(); ++i) {
        if (piece.segment->adapters[i] == nullptr) continue;
        tasks.push_back([&call, piece, i](int worker, Workspace& scratch) {
          HiddenGradient(call, piece, i, worker, scratch);
        });
      }
    }
  }
  for (const Segment& segment : call.segments) {
    if (segment.row_begin == segment.row_end) continue;
    for (int64_t i = 0; i < call.group.size(); ++i) {
      if (segment.adapters[i] == nullptr) continue;
      const int64_t n = call.group[i]->n();
      for (int64_t column = 0; column < n; column += PanelWidth(n)) {
        const int64_t width = std::min(PanelWidth(n), n - column);
        tasks.push_back([&call, &segment, i, column, width](int worker, Workspace& scratch) {
          AddGradientOfB(call, segment, i, column, width, worker, scratch);
        });
      }
    }
  }
}

// dx and the gradients of A: they read dhidden.
void AddSecondTasks(const BackwardCall& call, const std::vector<std::vector<Piece>>& by_tile,
                    std::vector<Task>& tasks) {
  for (int64_t column = 0; column < call.k(); column += PanelWidth(call.k())) {
    const int64_t width = std::min(PanelWidth(call.k()), call.k() - column);
    for (int64_t tile = 0; call.dx.data != nullptr && tile < by_tile.size(); ++tile) {
      tasks.push_back([&call, &by_tile, tile, column, width](int worker, Workspace& scratch) {
        InputGradient(call, tile, column, width, by_tile[tile], worker, scratch);
      });
    }
  }
  for (const Segment& segment : call.segments) {
    if (segment.row_begin == segment.row_end || segment.hidden_width() == 0) continue;
    for (int64_t column = 0; column < call.k(); column += PanelWidth(call.k())) {
      const int64_t width = std::min(PanelWidth(call.k()), call.k() - column);
      tasks.push_back([&call, &segment, column, width](int worker, Workspace& scratch) {
        AddGradientOfA(call, segment, column, width, worker, scratch);
      });
    }
  }
}

}  // namespace

void BackwardInTiles(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                     const ConstTensorView& x, const ConstTensorView& hidden,
                     absl::Span<const ConstTensorView> dy, const TensorView& dhidden,
                     const TensorView& dx) {
  const BackwardCall call = {
      context, group, segments, x, hidden, dy, dhidden, dx, StackedA(context, segments, x.dim(1))};
  const std::vector<std::vector<Piece>> by_tile = PiecesByTile(segments, call.rows());
  std::vector<Task> tasks;
  AddFirstTasks(call, by_tile, tasks);
  RunTasks(context, tasks);
  tasks.clear();
  AddSecondTasks(call, by_tile, tasks);
  RunTasks(context, tasks);
}

}  // namespace deltaworks::trainer

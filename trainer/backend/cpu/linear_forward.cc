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
  std::vector<const void*> stacked_a;

  int64_t rows() const { return x.dim(0); }
  int64_t k() const { return x.dim(1); }
};

// Rows of the tile that belong to the piece, dropped; the others of the scratch tile are whatever
// they were: their products are not used.
const void* DroppedTile(const ForwardCall& call, const Piece& piece, int64_t tile_begin,
                        Workspace& scratch) {
  const int64_t row_bytes = call.k() * SizeOf(call.x.dtype);
  char* dropped = scratch.Get<char>(kTileRows * row_bytes);
  const DropoutMask mask = MaskOf(piece.segment->dropout);
  for (int64_t row = piece.begin; row < piece.end; ++row) {
    call.context.kernels.drop(ElementAt(call.x, row, 0), mask, TokenOf(*piece.segment, row),
                              /*feature=*/0, dropped + (row - tile_begin) * row_bytes, call.k());
  }
  return dropped;
}

// hidden[piece] = drop(x[piece]) A^T for all adapters of the segment at once.
void HiddenOfPiece(const ForwardCall& call, const Piece& piece, int worker, Workspace& scratch) {
  const Segment& segment = *piece.segment;
  const int64_t tile_begin = piece.begin / kTileRows * kTileRows;
  const int64_t width = segment.hidden_width();
  const void* tile = segment.dropout.p > 0 ? DroppedTile(call, piece, tile_begin, scratch)
                                           : ElementAt(call.x, tile_begin, 0);
  float* out = scratch.Get<float>(kTileRows * width);
  call.context.products.Get(TimesTransposed(width, call.k(), call.k(), width))
      .Run(worker, tile, call.stacked_a[&segment - call.segments.data()], out);
  for (int64_t row = piece.begin; row < piece.end; ++row) {
    call.context.kernels.round(out + (row - tile_begin) * width, ElementAt(call.hidden, row, 0),
                               width);
  }
}

struct OutputTask {
  int64_t linear = 0;
  int64_t column = 0;
  int64_t width = 0;
  int64_t tile = 0;
};

std::vector<OutputTask> OutputTasks(const ForwardCall& call) {
  std::vector<OutputTask> tasks;
  for (int64_t i = 0; i < call.group.size(); ++i) {
    const int64_t n = call.group[i]->n();
    const int64_t width = PanelWidth(n);
    for (int64_t column = 0; column < n; column += width) {
      for (int64_t tile = 0; tile < CeilDiv(call.rows(), kTileRows); ++tile) {
        tasks.push_back({i, column, std::min(width, n - column), tile});
      }
    }
  }
  return tasks;
}

// y[piece] = round(base + scale * hidden B^T) on the task's columns; `base` is the tile's.
void AdaptedRows(const ForwardCall& call, const OutputTask& task, const Piece& piece,
                 const float* base, int worker, Workspace& scratch) {
  const LoraPair& pair = *piece.segment->adapters[task.linear];
  const int64_t rank = pair.rank();
  const int64_t tile_begin = task.tile * kTileRows;
  char* hidden = scratch.Get<char>(kTileRows * rank * SizeOf(pair.a.dtype));
  CopyBlock(call.hidden, piece.begin, piece.end, HiddenColumn(*piece.segment, task.linear), rank,
            hidden + (piece.begin - tile_begin) * rank * SizeOf(pair.a.dtype));
  float* update = scratch.Get<float>(kTileRows * task.width);
  call.context.products.Get(TimesTransposed(task.width, rank, rank, task.width))
      .Run(worker, hidden, ElementAt(pair.b, task.column, 0), update);
  for (int64_t row = piece.begin; row < piece.end; ++row) {
    const int64_t offset = (row - tile_begin) * task.width;
    call.context.kernels.add_scaled_round(base + offset, update + offset, pair.scale,
                                          ElementAt(call.y[task.linear], row, task.column),
                                          task.width);
  }
}

void OutputPanel(const ForwardCall& call, const OutputTask& task, absl::Span<const Piece> pieces,
                 int worker, Workspace& scratch) {
  const int64_t tile_begin = task.tile * kTileRows;
  const int64_t tile_end = std::min(call.rows(), tile_begin + kTileRows);
  const ConstTensorView& weight = WeightOf(*call.group[task.linear]);
  float* base = scratch.Get<float>(kTileRows * task.width);
  call.context.products.Get(TimesTransposed(task.width, call.k(), call.k(), task.width))
      .Run(worker, ElementAt(call.x, tile_begin, 0), ElementAt(weight, task.column, 0), base);
  const auto plain_rows = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      call.context.kernels.round(base + (row - tile_begin) * task.width,
                                 ElementAt(call.y[task.linear], row, task.column), task.width);
    }
  };
  int64_t row = tile_begin;
  for (const Piece& piece : pieces) {
    if (piece.segment->adapters[task.linear] == nullptr) continue;
    plain_rows(row, piece.begin);
    AdaptedRows(call, task, piece, base, worker, scratch);
    row = piece.end;
  }
  plain_rows(row, tile_end);
}

}  // namespace

void ForwardInTiles(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                    const ConstTensorView& x, const TensorView& hidden,
                    absl::Span<const TensorView> y) {
  const ForwardCall call = {
      context, group, segments, x, hidden, y, StackedA(context, segments, x.dim(1))};
  const std::vector<std::vector<Piece>> by_tile = PiecesByTile(segments, call.rows());
  std::vector<Piece> pieces;
  for (const auto& of_tile : by_tile) pieces.insert(pieces.end(), of_tile.begin(), of_tile.end());
  context.ForTasks(pieces.size(), [&](int64_t task, int worker, Workspace& scratch) {
    HiddenOfPiece(call, pieces[task], worker, scratch);
  });
  const std::vector<OutputTask> tasks = OutputTasks(call);
  context.ForTasks(tasks.size(), [&](int64_t task, int worker, Workspace& scratch) {
    OutputPanel(call, tasks[task], by_tile[tasks[task].tile], worker, scratch);
  });
}

}  // namespace deltaworks::trainer

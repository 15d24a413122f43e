#include "trainer/backend/cpu/cross_entropy.h"

#include <cmath>
#include <vector>

#include "trainer/backend/cpu/linear_group.h"

namespace deltaworks::trainer {
namespace {

// The gradient of x is a sum over the vocabulary: in chunks of some panels, the chunks in kSums
// runs that are added up in the end.
constexpr int64_t kPanelsPerChunk = 8;
constexpr int64_t kSums = 16;

// Rows whose logits are computed at a time; a tile has a multiple of them.
constexpr int64_t kTileRows = 128;
// Of the exponentials of one tile, and of the partial sums of its gradient.
constexpr int64_t kTileBytesMax = int64_t{32} << 20;

// Columns of the widest panel of the softmax.
constexpr int64_t kPanelMax = 256;

struct CrossEntropyTile {
  CpuContext& context;
  const ConstTensorView& weight;
  const ConstTensorView& x;
  int64_t panel;   // Columns of a panel of the softmax, the last one possibly narrower.
  int64_t panels;  // Their number.
  int64_t begin;
  int64_t rows;
  const int32_t* labels;
  const float* weights;
  TensorView exponentials;  // [rows, V] compute: of logit - panel's maximum.
  float* maxima;            // [panels, rows]
  float* sums;              // [panels, rows]: of the panel's exponentials.
  float* label_logits;      // [rows]
  float* log_sums;          // [rows]: log of the sum of all exponentials.

  int64_t vocabulary() const { return weight.dim(0); }
  int64_t d() const { return weight.dim(1); }

  void ComputePanels() const {
    context.ForTasks(panels, [&](int64_t task, int worker, Workspace& scratch) {
      const int64_t column = task * panel;
      const int64_t width = std::min(panel, vocabulary() - column);
      std::vector<ColumnRange> parts = PanelsOf(width);
      std::vector<std::vector<PanelFactor>> factors;
      for (const ColumnRange& part : parts) {
        AppendFactors(*context.products, x, begin, 0, TransposeOf(weight), d(),
                      {column + part.begin, part.width}, scratch, factors.emplace_back());
      }
      float* const logits = scratch.Get<float>(kTileRows * width);
      const Workspace::Place mark = scratch.Mark();
      for (int64_t first = 0; first < rows; first += kTileRows) {
        scratch.Rewind(mark);
        const int64_t count = std::min(kTileRows, rows - first);
        for (size_t i = 0; i < parts.size(); ++i) {
          RunSum(*context.products, worker, AtRow(factors[i], first, SizeOf(x.dtype)),
                 {.rows = count,
                  .columns = parts[i].width,
                  .sums = logits + parts[i].begin,
                  .out_row = width},
                 scratch);
        }
        for (int64_t row = first; row < first + count; ++row) {
          const float* const row_logits = logits + (row - first) * width;
          const int64_t label = labels[row] - column;
          if (label >= 0 && label < width) label_logits[row] = row_logits[label];
          context.kernels.panel_exponentials(row_logits, width,
                                             ElementAt(exponentials, row, column),
                                             &maxima[task * rows + row], &sums[task * rows + row]);
        }
      }
    });
  }

  // log of the sum of exponentials: the panels in order.
  void ComputeLosses(float* losses) const {
    context.ForBlocks(rows, /*block=*/8, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        float max = maxima[row];
        for (int64_t i = 1; i < panels; ++i) max = std::max(max, maxima[i * rows + row]);
        double sum = 0;
        for (int64_t i = 0; i < panels; ++i) {
          sum += static_cast<double>(sums[i * rows + row]) *
                 std::exp(static_cast<double>(maxima[i * rows + row]) - max);
        }
        const double log_sum = max + std::log(sum);
        log_sums[row] = static_cast<float>(log_sum);
        losses[row] = static_cast<float>(log_sum - static_cast<double>(label_logits[row]));
      }
    });
  }

  // The gradient of the logits [begin, begin + width) of all rows: weight * (p - [label]), where
  // p = exp(logit - log_sum).
  void FillLogitGradient(int64_t first, int64_t width, char* gradient) const {
    for (int64_t column = first; column < first + width; column += panel) {
      const int64_t columns = std::min(panel, first + width - column);
      for (int64_t row = 0; row < rows; ++row) {
        const double max = maxima[column / panel * rows + row];
        const double factor = weights[row] * std::exp(max - static_cast<double>(log_sums[row]));
        context.kernels.softmax_gradient(
            ElementAt(exponentials, row, column), static_cast<float>(factor), weights[row],
            labels[row] - column, gradient + (row * width + column - first) * SizeOf(x.dtype),
            columns);
      }
    }
  }

  // partial [rows, d]: the sum of the chunks of run `run`, in order.
  void ComputeRun(int64_t run, int64_t chunks_per_run, int worker, Workspace& scratch,
                  float* partial) const {
    const int64_t chunk_max = kPanelsPerChunk * panel;
    char* gradient = scratch.Get<char>(rows * chunk_max * SizeOf(x.dtype));
    const int64_t first = run * chunks_per_run * chunk_max;
    const int64_t last = std::min(vocabulary(), first + chunks_per_run * chunk_max);
    for (int64_t chunk = first; chunk < last; chunk += chunk_max) {
      const int64_t width = std::min(chunk_max, last - chunk);
      FillLogitGradient(chunk, width, gradient);
      const Workspace::Place mark = scratch.Mark();
      for (const ColumnRange& columns : PanelsOf(d())) {
        scratch.Rewind(mark);
        const void* const weights_panel = context.products->Prepare(
            RowsOf(weight), chunk, width, columns.begin, columns.width, scratch);
        const PanelFactor factor = {
            .a = gradient, .a_row = width, .panel = weights_panel, .depth = width};
        float* const sums = partial + columns.begin;
        context.products->Run(worker, {.factors = {&factor, 1},
                                       .rows = rows,
                                       .columns = columns.width,
                                       .initial = chunk == first ? nullptr : sums,
                                       .initial_row = d(),
                                       .sums = sums,
                                       .out_row = d()});
      }
    }
  }

  void ComputeGradient(const TensorView& dx, float* partials) const {
    const int64_t chunks = CeilDiv(panels, kPanelsPerChunk);
    const int64_t chunks_per_run = CeilDiv(chunks, kSums);
    const int64_t runs = CeilDiv(chunks, chunks_per_run);
    const int64_t size = rows * d();
    context.ForTasks(runs, [&](int64_t run, int worker, Workspace& scratch) {
      ComputeRun(run, chunks_per_run, worker, scratch, partials + run * size);
    });
    context.ForBlocks(rows, /*block=*/8, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        float* const sum = partials + row * d();
        for (int64_t run = 1; run < runs; ++run) {
          context.kernels.accumulate(partials + run * size + row * d(), sum, d());
        }
        context.kernels.round(sum, ElementAt(dx, begin + row, 0), d());
      }
    });
  }
};

int64_t TileRows(int64_t rows, int64_t vocabulary, int64_t d, int64_t element_bytes) {
  const int64_t row_bytes =
      std::max(vocabulary * element_bytes, kSums * d * static_cast<int64_t>(sizeof(float)));
  const int64_t blocks = std::max<int64_t>(1, kTileBytesMax / (kTileRows * row_bytes));
  return std::min(rows, kTileRows * blocks);
}

}  // namespace

ScratchNeed CrossEntropyScratch(DType compute_type, int64_t labels, int64_t vocabulary, int64_t d) {
  const int64_t element = SizeOf(compute_type);
  const int64_t rows = TileRows(labels, vocabulary, d, element);
  const std::vector<ColumnRange> ranges = RangesOf(vocabulary, kPanelMax);
  const auto panels = static_cast<int64_t>(ranges.size());
  constexpr int64_t kFloat = sizeof(float);
  const int64_t floats = kSums * rows * d + 2 * panels * rows + 2 * rows;
  // Logits of one panel of the softmax; then the gradient of one chunk.
  const int64_t forward =
      kPanelMax / kPanelColumns * PanelBytes(d) + kTileRows * kPanelMax * kFloat;
  const int64_t chunk = kPanelsPerChunk * ranges[0].width;
  const int64_t backward = rows * chunk * element + PanelBytes(chunk);
  // Sums deeper than one Run of Products.
  const int64_t partial = std::max(labels, kTileRows) * kPanelColumns * kFloat;
  return {rows * vocabulary * element + floats * kFloat, std::max(forward, backward) + partial};
}

void CrossEntropyInTiles(CpuContext& context, const ConstTensorView& weight,
                         const ConstTensorView& x, const ConstTensorView& labels,
                         const ConstTensorView& weights, const TensorView& losses,
                         const TensorView& dx) {
  const int64_t vocabulary = weight.dim(0);
  const std::vector<ColumnRange> ranges = RangesOf(vocabulary, kPanelMax);
  const auto panels = static_cast<int64_t>(ranges.size());
  const int64_t tile_rows = TileRows(x.dim(0), vocabulary, weight.dim(1), SizeOf(x.dtype));
  Workspace& shared = context.shared;
  void* exponentials = shared.Bytes(tile_rows * vocabulary * SizeOf(x.dtype));
  float* maxima = shared.Get<float>(panels * tile_rows);
  float* sums = shared.Get<float>(panels * tile_rows);
  float* label_logits = shared.Get<float>(tile_rows);
  float* log_sums = shared.Get<float>(tile_rows);
  float* partials =
      dx.data == nullptr ? nullptr : shared.Get<float>(kSums * tile_rows * weight.dim(1));
  for (int64_t begin = 0; begin < x.dim(0); begin += tile_rows) {
    const int64_t rows = std::min(tile_rows, x.dim(0) - begin);
    const CrossEntropyTile tile = {.context = context,
                                   .weight = weight,
                                   .x = x,
                                   .panel = ranges[0].width,
                                   .panels = panels,
                                   .begin = begin,
                                   .rows = rows,
                                   .labels = labels.as<const int32_t>() + begin,
                                   .weights = weights.as<const float>() + begin,
                                   .exponentials = {exponentials, x.dtype, {rows, vocabulary}},
                                   .maxima = maxima,
                                   .sums = sums,
                                   .label_logits = label_logits,
                                   .log_sums = log_sums};
    for (int64_t row = 0; row < tile.rows; ++row) {
      CHECK(tile.labels[row] >= 0 && tile.labels[row] < vocabulary)
          << "label is " << tile.labels[row] << ", want 0 <= label < " << vocabulary;
    }
    tile.ComputePanels();
    tile.ComputeLosses(losses.as<float>() + begin);
    if (dx.data != nullptr) tile.ComputeGradient(dx, partials);
  }
}

void LogitsInPanels(CpuContext& context, const ConstTensorView& weight, const ConstTensorView& x,
                    const TensorView& logits) {
  const std::vector<ColumnRange> panels = PanelsOf(weight.dim(0));
  const std::vector<PanelTask> tasks = TasksOf(context, panels.size(), x.dim(0));
  context.ForTasks(tasks.size(), [&](int64_t i, int worker, Workspace& scratch) {
    const auto [panel, begin, end] = tasks[i];
    const ColumnRange& columns = panels[panel];
    std::vector<PanelFactor> factors;
    AppendFactors(*context.products, x, begin, 0, TransposeOf(weight), weight.dim(1), columns,
                  scratch, factors);
    RunSum(*context.products, worker, factors,
           {.rows = end - begin,
            .columns = columns.width,
            .sums = logits.as<float>() + begin * weight.dim(0) + columns.begin,
            .out_row = weight.dim(0)},
           scratch);
  });
}

}  // namespace deltaworks::trainer

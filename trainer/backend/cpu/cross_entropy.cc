#include "trainer/backend/cpu/cross_entropy.h"

#include <cmath>
#include <cstring>

namespace deltaworks::trainer {
namespace {

// The gradient of x is a sum over the vocabulary: in chunks of some panels, the chunks in kSums
// runs that are added up in the end.
constexpr int64_t kPanelsPerChunk = 8;
constexpr int64_t kSums = 16;

struct CrossEntropyTile {
  CpuContext& context;
  const ConstTensorView& weight;
  const ConstTensorView& x;
  int64_t begin;
  int64_t rows;
  const int32_t* labels;
  const float* weights;
  float* logits;        // [kTileRows, V]; once their panel is done, exp(logit - panel's maximum).
  float* maxima;        // [panels, kTileRows]
  float* sums;          // [panels, kTileRows]: of the panel's exponentials.
  float* label_logits;  // [kTileRows]
  float* log_sums;      // [kTileRows]: log of the sum of all exponentials.

  int64_t vocabulary() const { return weight.dim(0); }
  int64_t d() const { return weight.dim(1); }
  int64_t panel() const { return PanelWidth(vocabulary()); }
  int64_t panels() const { return CeilDiv(vocabulary(), panel()); }

  void ComputePanels() const {
    context.pool->ParallelFor(panels(), [&](int64_t task, int worker) {
      const int64_t column = task * panel();
      const int64_t width = std::min(panel(), vocabulary() - column);
      context.products.Get(TimesTransposed(width, d(), d(), vocabulary()))
          .Run(worker, ElementAt(x, begin, 0), ElementAt(weight, column, 0), logits + column);
      for (int64_t row = 0; row < rows; ++row) {
        float* const row_logits = logits + row * vocabulary() + column;
        const int64_t label = labels[row] - column;
        if (label >= 0 && label < width) label_logits[row] = row_logits[label];
        context.kernels.panel_exponentials(row_logits, width, &maxima[task * kTileRows + row],
                                           &sums[task * kTileRows + row]);
      }
    });
  }

  // log of the sum of exponentials: the panels in order.
  void ComputeLosses(float* losses) const {
    context.ForBlocks(rows, /*block=*/8, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        float max = maxima[row];
        for (int64_t i = 1; i < panels(); ++i) max = std::max(max, maxima[i * kTileRows + row]);
        double sum = 0;
        for (int64_t i = 0; i < panels(); ++i) {
          sum += static_cast<double>(sums[i * kTileRows + row]) *
                 std::exp(static_cast<double>(maxima[i * kTileRows + row]) - max);
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
    for (int64_t column = first; column < first + width; column += panel()) {
      const int64_t columns = std::min(panel(), first + width - column);
      for (int64_t row = 0; row < rows; ++row) {
        const double max = maxima[column / panel() * kTileRows + row];
        const double factor = weights[row] * std::exp(max - static_cast<double>(log_sums[row]));
        context.kernels.softmax_gradient(
            logits + row * vocabulary() + column, static_cast<float>(factor), weights[row],
            labels[row] - column, gradient + (row * width + column - first) * SizeOf(x.dtype),
            columns);
      }
    }
  }

  // partial [kTileRows, d]: the sum of the chunks of run `run`, in order.
  void ComputeRun(int64_t run, int64_t chunks_per_run, int worker, Workspace& scratch,
                  float* partial) const {
    const int64_t chunk_max = kPanelsPerChunk * panel();
    char* gradient = scratch.Get<char>(kTileRows * chunk_max * SizeOf(x.dtype));
    const int64_t first = run * chunks_per_run * chunk_max;
    const int64_t last = std::min(vocabulary(), first + chunks_per_run * chunk_max);
    for (int64_t chunk = first; chunk < last; chunk += chunk_max) {
      const int64_t width = std::min(chunk_max, last - chunk);
      FillLogitGradient(chunk, width, gradient);
      for (int64_t column = 0; column < d(); column += PanelWidth(d())) {
        const int64_t columns = std::min(PanelWidth(d()), d() - column);
        ProductShape shape = Times(columns, width, width, d(), d());
        shape.accumulate = chunk != first;
        context.products.Get(shape).Run(worker, gradient, ElementAt(weight, chunk, column),
                                        partial + column);
      }
    }
  }

  void ComputeGradient(const TensorView& dx, float* partials) const {
    const int64_t chunks = CeilDiv(panels(), kPanelsPerChunk);
    const int64_t chunks_per_run = CeilDiv(chunks, kSums);
    const int64_t runs = CeilDiv(chunks, chunks_per_run);
    const int64_t size = kTileRows * d();
    context.ForTasks(runs, [&](int64_t run, int worker, Workspace& scratch) {
      ComputeRun(run, chunks_per_run, worker, scratch, partials + run * size);
    });
    context.ForBlocks(rows, /*block=*/8, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        float* const sum = partials + row * d();
        for (int64_t run = 1; run < runs; ++run) {
          context.kernels.accumulate(partials + run * size + row * d(), 1.0f, sum, d());
        }
        context.kernels.round(sum, ElementAt(dx, begin + row, 0), d());
      }
    });
  }
};

}  // namespace

void CrossEntropyInTiles(CpuContext& context, const ConstTensorView& weight,
                         const ConstTensorView& x, const ConstTensorView& labels,
                         const ConstTensorView& weights, const TensorView& losses,
                         const TensorView& dx) {
  const int64_t vocabulary = weight.dim(0);
  const int64_t panels = CeilDiv(vocabulary, PanelWidth(vocabulary));
  Workspace& shared = context.shared;
  float* logits = shared.Get<float>(kTileRows * vocabulary);
  float* maxima = shared.Get<float>(panels * kTileRows);
  float* sums = shared.Get<float>(panels * kTileRows);
  float* label_logits = shared.Get<float>(kTileRows);
  float* log_sums = shared.Get<float>(kTileRows);
  float* partials =
      dx.data == nullptr ? nullptr : shared.Get<float>(kSums * kTileRows * weight.dim(1));
  for (int64_t begin = 0; begin < x.dim(0); begin += kTileRows) {
    const CrossEntropyTile tile = {.context = context,
                                   .weight = weight,
                                   .x = x,
                                   .begin = begin,
                                   .rows = std::min(kTileRows, x.dim(0) - begin),
                                   .labels = labels.as<const int32_t>() + begin,
                                   .weights = weights.as<const float>() + begin,
                                   .logits = logits,
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

void LogitsInTiles(CpuContext& context, const ConstTensorView& weight, const ConstTensorView& x,
                   const TensorView& logits) {
  const int64_t n = weight.dim(0);
  const int64_t k = weight.dim(1);
  const int64_t panel = PanelWidth(n);
  const int64_t tiles = CeilDiv(x.dim(0), kTileRows);
  context.ForTasks(CeilDiv(n, panel) * tiles, [&](int64_t task, int worker, Workspace& scratch) {
    const int64_t column = task / tiles * panel;
    const int64_t width = std::min(panel, n - column);
    const int64_t begin = task % tiles * kTileRows;
    float* out = scratch.Get<float>(kTileRows * width);
    context.products.Get(TimesTransposed(width, k, k, width))
        .Run(worker, ElementAt(x, begin, 0), ElementAt(weight, column, 0), out);
    for (int64_t row = begin; row < std::min(x.dim(0), begin + kTileRows); ++row) {
      std::memcpy(logits.as<float>() + row * n + column, out + (row - begin) * width,
                  width * sizeof(float));
    }
  });
}

}  // namespace deltaworks::trainer

#include "trainer/backend/cpu/cross_entropy.h"

#include <cmath>
#include <cstring>

namespace deltaworks::trainer {
namespace {

// The gradient of x is a sum over the vocabulary: in chunks, the chunks in kSums runs that are
// added up in the end.
constexpr int64_t kChunk = 2048;
constexpr int64_t kSums = 16;

struct CrossEntropyTile {
  CpuContext& context;
  const ConstTensorView& weight;
  const ConstTensorView& x;
  int64_t begin;
  int64_t rows;
  float* logits;  // [kTileRows, V]
  float* maxima;  // [panels, kTileRows]
  float* sums;    // [panels, kTileRows]: of exp(logit - the panel's maximum).
  const int32_t* labels;
  const float* weights;
  float* log_sums;  // [kTileRows]

  int64_t vocabulary() const { return weight.dim(0); }
  int64_t d() const { return weight.dim(1); }

  void ComputeLogits() const {
    const int64_t panel = PanelWidth(vocabulary());
    context.pool->ParallelFor(CeilDiv(vocabulary(), panel), [&](int64_t task, int worker) {
      const int64_t column = task * panel;
      const int64_t width = std::min(panel, vocabulary() - column);
      context.products.Get(TimesTransposed(width, d(), d(), vocabulary()))
          .Run(worker, ElementAt(x, begin, 0), ElementAt(weight, column, 0), logits + column);
      for (int64_t row = 0; row < rows; ++row) {
        context.kernels.panel_statistics(logits + row * vocabulary() + column, width,
                                         &maxima[task * kTileRows + row],
                                         &sums[task * kTileRows + row]);
      }
    });
  }

  // log of the sum of exponentials: the panels in order.
  void ComputeLosses(float* losses) const {
    const int64_t panels = CeilDiv(vocabulary(), PanelWidth(vocabulary()));
    for (int64_t row = 0; row < rows; ++row) {
      float max = maxima[row];
      for (int64_t panel = 1; panel < panels; ++panel) {
        max = std::max(max, maxima[panel * kTileRows + row]);
      }
      double sum = 0;
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t i = panel * kTileRows + row;
        sum += static_cast<double>(sums[i]) * std::exp(static_cast<double>(maxima[i]) - max);
      }
      const double log_sum = max + std::log(sum);
      log_sums[row] = static_cast<float>(log_sum);
      losses[row] = static_cast<float>(
          log_sum - static_cast<double>(logits[row * vocabulary() + labels[row]]));
    }
  }

  // partial [d] rows of run `run`: its chunks in order.
  void ComputeRun(int64_t run, int64_t chunks_per_run, int worker, Workspace& scratch,
                  float* partial) const {
    char* gradient = scratch.Get<char>(kTileRows * kChunk * SizeOf(x.dtype));
    const int64_t first = run * chunks_per_run * kChunk;
    const int64_t last = std::min(vocabulary(), first + chunks_per_run * kChunk);
    for (int64_t chunk = first; chunk < last; chunk += kChunk) {
      const int64_t width = std::min(kChunk, last - chunk);
      for (int64_t row = 0; row < rows; ++row) {
        context.kernels.softmax_gradient(logits + row * vocabulary() + chunk, log_sums[row],
                                         weights[row], labels[row] - chunk,
                                         gradient + row * width * SizeOf(x.dtype), width);
      }
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
    const int64_t chunks = CeilDiv(vocabulary(), kChunk);
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
  float* logits = context.shared.Get<float>(kTileRows * vocabulary);
  float* maxima = context.shared.Get<float>(panels * kTileRows);
  float* sums = context.shared.Get<float>(panels * kTileRows);
  float* log_sums = context.shared.Get<float>(kTileRows);
  float* partials =
      dx.data == nullptr ? nullptr : context.shared.Get<float>(kSums * kTileRows * weight.dim(1));
  for (int64_t begin = 0; begin < x.dim(0); begin += kTileRows) {
    const int64_t rows = std::min(kTileRows, x.dim(0) - begin);
    const CrossEntropyTile tile = {context,
                                   weight,
                                   x,
                                   begin,
                                   rows,
                                   logits,
                                   maxima,
                                   sums,
                                   labels.as<const int32_t>() + begin,
                                   weights.as<const float>() + begin,
                                   log_sums};
    for (int64_t row = 0; row < rows; ++row) {
      CHECK(tile.labels[row] >= 0 && tile.labels[row] < vocabulary)
          << "label is " << tile.labels[row] << ", want 0 <= label < " << vocabulary;
    }
    tile.ComputeLogits();
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

// Few rows: the time is that of reading the weights, so each is read once for all rows, in panels
// of a fixed width. Every number is one sum in a fixed order, whatever the number of rows.

#include "trainer/backend/cpu/linear_decode.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kDecodePanel = 64;

struct WideRows {
  const float* data = nullptr;
  int64_t row = 0;  // Elements between rows: a multiple of 16, zero behind the end.
};

// Rows [begin, end), columns [column, column + width), widened.
WideRows WidenRows(const KernelSet& kernels, const ConstTensorView& x, int64_t begin, int64_t end,
                   int64_t column, int64_t width, Workspace& scratch) {
  const int64_t row = CeilDiv(width, 16) * 16;
  float* data = scratch.Get<float>((end - begin) * row);
  kernels.pack_rows(ElementAt(x, begin, column), x.dim(1), end - begin, width, 1.0f, data, row);
  return {data, row};
}

// hidden[segment] = drop(x[segment]) A^T for one linear.
void DecodeHidden(CpuContext& context, const Segment& segment, int64_t linear,
                  const ConstTensorView& x, const TensorView& hidden, Workspace& scratch) {
  const LoraPair& pair = *segment.adapters[linear];
  const int64_t k = x.dim(1);
  const int64_t rank = pair.rank();
  const int64_t rows = segment.row_end - segment.row_begin;
  WideRows wide;
  if (segment.dropout.p > 0) {
    TensorView dropped = {scratch.Get<char>(rows * k * SizeOf(x.dtype)), x.dtype, {rows, k}};
    const DropoutMask mask = MaskOf(segment.dropout);
    for (int64_t i = 0; i < rows; ++i) {
      context.kernels.drop(ElementAt(x, segment.row_begin + i, 0), mask,
                           TokenOf(segment, segment.row_begin + i), /*feature=*/0,
                           ElementAt(dropped, i, 0), k);
    }
    wide = WidenRows(context.kernels, dropped, 0, rows, 0, k, scratch);
  } else {
    wide = WidenRows(context.kernels, x, segment.row_begin, segment.row_end, 0, k, scratch);
  }
  float* out = scratch.Get<float>(rows * rank);
  context.kernels.dot(wide.data, wide.row, rows, pair.a.data, k, rank, k, out, rank);
  const int64_t column = HiddenColumn(segment, linear);
  for (int64_t i = 0; i < rows; ++i) {
    context.kernels.round(out + i * rank, ElementAt(hidden, segment.row_begin + i, column), rank);
  }
}

// Columns [column, column + width) of linear i.
void DecodePanel(CpuContext& context, int64_t linear, int64_t column, int64_t width,
                 const WideRows& x, const ConstTensorView& weight,
                 absl::Span<const Segment> segments, const TensorView& hidden, const TensorView& y,
                 Workspace& scratch) {
  const int64_t rows = y.dim(0);
  float* base = scratch.Get<float>(rows * width);
  context.kernels.dot(x.data, x.row, rows, ElementAt(weight, column, 0), weight.dim(1), width,
                      weight.dim(1), base, width);
  int64_t row = 0;
  const auto plain_rows_to = [&](int64_t end) {
    for (; row < end; ++row) {
      context.kernels.round(base + row * width, ElementAt(y, row, column), width);
    }
  };
  for (const Segment& segment : segments) {
    const LoraPair* pair = segment.adapters[linear];
    if (pair == nullptr || segment.row_begin == segment.row_end) continue;
    plain_rows_to(segment.row_begin);
    const int64_t rank = pair->rank();
    const WideRows wide = WidenRows(context.kernels, hidden, segment.row_begin, segment.row_end,
                                    HiddenColumn(segment, linear), rank, scratch);
    const int64_t segment_rows = segment.row_end - segment.row_begin;
    float* update = scratch.Get<float>(segment_rows * width);
    context.kernels.dot(wide.data, wide.row, segment_rows, ElementAt(pair->b, column, 0), rank,
                        width, rank, update, width);
    for (; row < segment.row_end; ++row) {
      context.kernels.add_scaled_round(base + row * width,
                                       update + (row - segment.row_begin) * width, pair->scale,
                                       ElementAt(y, row, column), width);
    }
  }
  plain_rows_to(rows);
}

struct PanelTask {
  int64_t linear;
  int64_t column;
  int64_t width;
};

std::vector<PanelTask> PanelTasks(LinearGroup group) {
  std::vector<PanelTask> tasks;
  for (int64_t i = 0; i < group.size(); ++i) {
    const int64_t n = group[i]->n();
    for (int64_t column = 0; column < n; column += kDecodePanel) {
      tasks.push_back({i, column, std::min(kDecodePanel, n - column)});
    }
  }
  return tasks;
}

}  // namespace

void ForwardForDecoding(CpuContext& context, LinearGroup group, absl::Span<const Segment> segments,
                        const ConstTensorView& x, const TensorView& hidden,
                        absl::Span<const TensorView> y) {
  std::vector<std::pair<const Segment*, int64_t>> adapters;
  for (const Segment& segment : segments) {
    for (int64_t i = 0; i < group.size(); ++i) {
      if (segment.adapters[i] != nullptr) adapters.emplace_back(&segment, i);
    }
  }
  context.ForTasks(adapters.size(), [&](int64_t task, int, Workspace& scratch) {
    DecodeHidden(context, *adapters[task].first, adapters[task].second, x, hidden, scratch);
  });
  const WideRows wide = WidenRows(context.kernels, x, 0, x.dim(0), 0, x.dim(1), context.shared);
  const std::vector<PanelTask> tasks = PanelTasks(group);
  context.ForTasks(tasks.size(), [&](int64_t task, int, Workspace& scratch) {
    const auto [linear, column, width] = tasks[task];
    DecodePanel(context, linear, column, width, wide, WeightOf(*group[linear]), segments, hidden,
                y[linear], scratch);
  });
}

void LogitsForDecoding(CpuContext& context, const ConstTensorView& weight, const ConstTensorView& x,
                       const TensorView& logits) {
  const WideRows wide = WidenRows(context.kernels, x, 0, x.dim(0), 0, x.dim(1), context.shared);
  const int64_t n = weight.dim(0);
  context.ForBlocks(n, kDecodePanel, [&](int64_t begin, int64_t end) {
    context.kernels.dot(wide.data, wide.row, x.dim(0), ElementAt(weight, begin, 0), weight.dim(1),
                        end - begin, weight.dim(1), logits.as<float>() + begin, n);
  });
}

}  // namespace deltaworks::trainer

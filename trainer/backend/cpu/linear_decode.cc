// Few rows: the time is that of reading the weights, so each is read once for all rows, in panels
// of a fixed width. Every number is one sum in a fixed order, whatever the number of rows.

#include "trainer/backend/cpu/linear_decode.h"

namespace deltaworks::trainer {
namespace {

constexpr int64_t kDecodePanel = 64;

// hidden[segment] = scale * drop(x[segment]) A^T for one linear.
void DecodeHidden(CpuContext& context, const Segment& segment, int64_t linear,
                  const ConstTensorView& x, const TensorView& hidden, Workspace& scratch) {
  const LoraPair& pair = *segment.adapters[linear];
  const int64_t k = x.dim(1);
  const int64_t rank = pair.rank();
  const int64_t rows = segment.row_end - segment.row_begin;
  const void* adapted = ElementAt(x, segment.row_begin, 0);
  if (segment.dropout.p > 0) {
    TensorView dropped = {scratch.Get<char>(rows * k * SizeOf(x.dtype)), x.dtype, {rows, k}};
    const DropoutMask mask = MaskOf(segment.dropout);
    for (int64_t i = 0; i < rows; ++i) {
      context.kernels.drop(ElementAt(x, segment.row_begin + i, 0), mask,
                           TokenOf(segment, segment.row_begin + i), /*feature=*/0,
                           ElementAt(dropped, i, 0), k);
    }
    adapted = dropped.data;
  }
  float* out = scratch.Get<float>(rows * rank);
  context.kernels.dot(adapted, k, rows, pair.a.data, k, rank, k, out, rank);
  const int64_t column = HiddenColumn(segment, linear);
  for (int64_t i = 0; i < rows; ++i) {
    context.kernels.scale_round(out + i * rank, pair.scale,
                                ElementAt(hidden, segment.row_begin + i, column), rank);
  }
}

// Columns [column, column + width) of linear i.
void DecodePanel(CpuContext& context, int64_t linear, int64_t column, int64_t width,
                 const ConstTensorView& x, const ConstTensorView& weight,
                 absl::Span<const Segment> segments, const TensorView& hidden, const TensorView& y,
                 Workspace& scratch) {
  const int64_t rows = y.dim(0);
  float* base = scratch.Get<float>(rows * width);
  const int64_t k = weight.dim(1);
  context.kernels.dot(x.data, k, rows, ElementAt(weight, column, 0), k, width, k, base, width);
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
    const int64_t segment_rows = segment.row_end - segment.row_begin;
    float* update = scratch.Get<float>(segment_rows * width);
    context.kernels.dot(ElementAt(hidden, segment.row_begin, HiddenColumn(segment, linear)),
                        hidden.dim(1), segment_rows, ElementAt(pair->b, column, 0), rank, width,
                        rank, update, width);
    for (; row < segment.row_end; ++row) {
      context.kernels.add_round(base + row * width, update + (row - segment.row_begin) * width,
                                ElementAt(y, row, column), width);
    }
  }
  plain_rows_to(rows);
}

struct DecodeTask {
  int64_t linear;
  int64_t column;
  int64_t width;
};

std::vector<DecodeTask> DecodeTasks(LinearGroup group) {
  std::vector<DecodeTask> tasks;
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
  const std::vector<DecodeTask> tasks = DecodeTasks(group);
  context.ForTasks(tasks.size(), [&](int64_t task, int, Workspace& scratch) {
    const auto [linear, column, width] = tasks[task];
    DecodePanel(context, linear, column, width, x, WeightOf(*group[linear]), segments, hidden,
                y[linear], scratch);
  });
}

void LogitsForDecoding(CpuContext& context, const ConstTensorView& weight, const ConstTensorView& x,
                       const TensorView& logits) {
  const int64_t n = weight.dim(0);
  context.ForBlocks(n, kDecodePanel, [&](int64_t begin, int64_t end) {
    context.kernels.dot(x.data, x.dim(1), x.dim(0), ElementAt(weight, begin, 0), weight.dim(1),
                        end - begin, weight.dim(1), logits.as<float>() + begin, n);
  });
}

}  // namespace deltaworks::trainer

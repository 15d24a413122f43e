#include "trainer/backend/cpu/panel_sum.h"

namespace deltaworks::trainer {
namespace {

// Of the panels that are cut.
constexpr int64_t kPartsPerThread = 4;
constexpr int64_t kPartRowsMin = 96;
// Whole blocks of any kernel.
constexpr int64_t kBlockRowsMax = 32;

}  // namespace

std::vector<ColumnRange> RangesOf(int64_t n, int64_t width_max) {
  const int64_t count = CeilDiv(n, width_max);
  const int64_t width = CeilDiv(CeilDiv(n, count), kPanelColumns) * kPanelColumns;
  std::vector<ColumnRange> panels;
  for (int64_t begin = 0; begin < n; begin += width) {
    panels.push_back({begin, std::min(width, n - begin)});
  }
  return panels;
}

std::vector<PanelTask> TasksOf(const CpuContext& context, int64_t panels, int64_t rows) {
  const int64_t threads = context.pool->threads();
  const int64_t whole =
      threads == 1 ? panels : std::max<int64_t>(0, panels / threads - 1) * threads;
  std::vector<PanelTask> tasks;
  for (int64_t panel = 0; panel < whole; ++panel) tasks.push_back({panel, 0, rows});
  if (whole == panels) return tasks;
  const int64_t parts = CeilDiv(kPartsPerThread * threads, panels - whole);
  const int64_t wanted = std::max(CeilDiv(rows, parts), kPartRowsMin);
  const int64_t block = context.kernels.block_rows;
  const int64_t part = CeilDiv(wanted, block) * block;
  for (int64_t panel = whole; panel < panels; ++panel) {
    for (int64_t begin = 0; begin < rows; begin += part) {
      tasks.push_back({panel, begin, std::min(rows, begin + part)});
    }
  }
  return tasks;
}

int64_t SinglePanelRowsMax(int threads, int64_t rows) {
  if (threads == 1) return rows;
  return std::min(rows,
                  std::max(CeilDiv(rows, kPartsPerThread * threads), kPartRowsMin) + kBlockRowsMax);
}

void AppendFactors(const Products& products, const ConstTensorView& a, int64_t row,
                   int64_t a_column, const RightSide& b, int64_t depth, const ColumnRange& columns,
                   Workspace& scratch, std::vector<PanelFactor>& factors) {
  for (int64_t first = 0; first < depth; first += Products::kDepthMax) {
    const int64_t part = std::min(Products::kDepthMax, depth - first);
    factors.push_back(
        {.a = ElementAt(a, row, a_column + first),
         .a_row = a.dim(1),
         .panel = products.Prepare(b, first, part, columns.begin, columns.width, scratch),
         .depth = part});
  }
}

std::vector<PanelFactor> AtRow(absl::Span<const PanelFactor> factors, int64_t row,
                               int64_t element_bytes) {
  std::vector<PanelFactor> result(factors.begin(), factors.end());
  for (PanelFactor& factor : result) {
    factor.a = static_cast<const char*>(factor.a) + row * factor.a_row * element_bytes;
  }
  return result;
}

void RunSum(Products& products, int worker, absl::Span<const PanelFactor> factors, PanelSum sum,
            Workspace& scratch) {
  const PanelSum whole = sum;
  float* partial = nullptr;
  for (size_t begin = 0; begin < factors.size();) {
    size_t end = begin;
    for (int64_t depth = 0; end < factors.size() && end - begin < kPanelTermsMax; ++end) {
      depth += factors[end].depth;
      if (end > begin && depth > Products::kDepthMax) break;
    }
    sum.factors = factors.subspan(begin, end - begin);
    if (end == factors.size()) {
      sum.sums = whole.sums;
      sum.rounded = whole.rounded;
      sum.out_row = whole.out_row;
    } else {
      if (partial == nullptr) partial = scratch.Get<float>(sum.rows * sum.columns);
      sum.sums = partial;
      sum.rounded = nullptr;
      sum.out_row = sum.columns;
    }
    products.Run(worker, sum);
    sum.initial = partial;
    sum.initial_row = sum.columns;
    begin = end;
  }
}

}  // namespace deltaworks::trainer

// Sums of products of any depth, one panel of columns at a time.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_PANEL_SUM_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_PANEL_SUM_H_

#include <cstdint>
#include <vector>

#include "trainer/backend/cpu/context.h"

namespace deltaworks::trainer {

// Columns [begin, begin + width).
struct ColumnRange {
  int64_t begin = 0;
  int64_t width = 0;
};
// Cuts n columns into ranges of equal width, a multiple of kPanelColumns and at most width_max, the
// last one possibly narrower.
std::vector<ColumnRange> RangesOf(int64_t n, int64_t width_max);
// The panels of a right-hand side of n columns.
inline std::vector<ColumnRange> PanelsOf(int64_t n) { return RangesOf(n, kPanelColumns); }

// Rows [begin, end) of one panel.
struct PanelTask {
  int64_t panel = 0;
  int64_t begin = 0;
  int64_t end = 0;
};
// Cuts `panels` panels of `rows` rows into tasks: whole panels, each of which is packed once, and
// in the end parts of panels, so that threads end together. No result depends on the cut.
std::vector<PanelTask> TasksOf(const CpuContext& context, int64_t panels, int64_t rows);
// Rows of a task of a single panel, at most.
int64_t SinglePanelRowsMax(int threads, int64_t rows);

// Appends a [rows,depth], rows a_row elements apart, times the columns of b: several factors if
// that is deeper than a Run can be.
void AppendFactors(const Products& products, const ConstTensorView& a, int64_t row,
                   int64_t a_column, const RightSide& b, int64_t depth, const ColumnRange& columns,
                   Workspace& scratch, std::vector<PanelFactor>& factors);

// The same factors with their left sides `row` rows further on.
std::vector<PanelFactor> AtRow(absl::Span<const PanelFactor> factors, int64_t row,
                               int64_t element_bytes);

// Products::Run for any number and depth of factors. `sum.factors` is ignored.
void RunSum(Products& products, int worker, absl::Span<const PanelFactor> factors, PanelSum sum,
            Workspace& scratch);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_PANEL_SUM_H_

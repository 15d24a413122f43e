// The adapters of a group of linears, as columns of its products: which slice stands where
// (kernels/adapters.h has the words). Weights have room for so many further columns; a batch whose
// adapters need more is cut by rows into parts, which changes no row.
//
// Pure: no device memory is read or written. Plain functions, thread-safe.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_ADAPTER_PLAN_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_ADAPTER_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/backend/cuda/kernels/adapters.h"

namespace deltaworks::trainer::cuda {

// Every slice begins at a multiple of so many columns: what a tensor core adds up at a time. So the
// same terms are added together wherever the slice stands.
inline constexpr int64_t kColumnMultiple = 16;

// Rows [rows.begin, rows.begin + rows.rows) of the batch.
struct AdapterPart {
  RowRange rows;
  std::vector<SegmentRows> segments;
  std::vector<Slice> slices;                        // By segment, then linear.
  std::vector<Column> group_columns;                // Those of a segment are adjacent.
  std::vector<std::vector<Column>> linear_columns;  // By linear.
  bool dropout = false;                             // Of any segment.

  int64_t group_width() const { return static_cast<int64_t>(group_columns.size()); }
  int64_t linear_width(size_t linear) const {
    return static_cast<int64_t>(linear_columns[linear].size());
  }
  int64_t linear_width_max() const;
};

// Parts that cover rows [0, rows) in order, none of which has more than `width_max` columns in one
// linear unless a single segment has.
std::vector<AdapterPart> PlanAdapters(absl::Span<const Segment> segments, int64_t linears,
                                      int64_t rows, int64_t width_max);

// One part of all rows without columns, for kernels that take each row's own slices.
AdapterPart PlanRows(absl::Span<const Segment> segments, int64_t linears, int64_t rows);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_ADAPTER_PLAN_H_

// Products: matrix products whose rows are exact.
//
// A row of a product must have the same bits whatever else is in the batch, and however many
// threads work: every element is one chain of multiply-adds over panels (kernels.h), so any number
// of rows will do. A library would choose its blocking by the shape and the number of threads.
//
// Panels are made from the weights where they are, each time, so the base needs no second copy, in
// memory or on disk; trainer/README.md tells what that costs.
//
// Thread rule: all workers may call Prepare() and Run() at once, each with its own `worker` number
// and Workspace, within a KernelScope, which ThreadPool's tasks are.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_PRODUCTS_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_PRODUCTS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "trainer/backend/cpu/host_memory.h"
#include "trainer/backend/cpu/kernels/kernels.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A right-hand side. Element (p,j) is data[p * row + j], or data[j * row + p] if transposed, in the
// compute type.
struct RightSide {
  const void* data = nullptr;
  int64_t row = 0;
  bool transposed = false;
};

// a [rows,depth] times a panel.
struct PanelFactor {
  const void* a = nullptr;  // In the compute type; rows are a_row elements apart.
  int64_t a_row = 0;
  bool a_prepared = false;      // Or what PrepareTransposed() gave.
  const void* panel = nullptr;  // What Prepare() gave.
  int64_t depth = 0;
};

// out = initial + the factors' products, added in their order: f32 to `sums` or rounded to
// `rounded`, one of the two. Without `initial` the sum begins at zero; it may be `sums`.
struct PanelSum {
  absl::Span<const PanelFactor> factors;  // At most kPanelTermsMax.
  int64_t rows = 0;
  int64_t columns = 0;  // At most kPanelColumns.
  const float* initial = nullptr;
  int64_t initial_row = 0;
  float* sums = nullptr;
  void* rounded = nullptr;
  int64_t out_row = 0;
};

class Products {
 public:
  // Depth of the factors of one Run, all together, at most: their panels stay in the second cache
  // level. A multiple of what a kernel takes at a step, so that a sum may be cut here.
  static constexpr int64_t kDepthMax = 4096;
  // Sums over tokens run over this many at a time.
  static constexpr int64_t kTokenTile = 1024;

  // `kernels` must outlive the products.
  Products(DType compute_type, int workers, const KernelSet& kernels);

  // Rows [first, first + depth), columns [column, column + columns) of b, ready for Run(). Valid
  // while what `scratch` gave is.
  const void* Prepare(const RightSide& b, int64_t first, int64_t depth, int64_t column,
                      int64_t columns, Workspace& scratch) const;
  // The transpose of [tokens, columns], as the left side of a sum over at most kTokenTile tokens;
  // rows of `a` are a_row elements apart, and there are at most kPanelColumns columns.
  const void* PrepareTransposed(const void* a, int64_t a_row, int64_t tokens, int64_t columns,
                                Workspace& scratch) const;
  void Run(int worker, const PanelSum& sum);

  // Of one worker's Run.
  static int64_t ScratchBytes() { return PanelProductScratch(kDepthMax); }

 private:
  const int64_t element_bytes_;
  const KernelSet& kernels_;
  std::vector<Workspace> scratch_;  // One for each worker.
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_PRODUCTS_H_

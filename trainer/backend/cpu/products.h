// Products: matrix products whose rows are exact.
//
// A row of a product must have the same bits whatever else is in the batch, and however many
// threads work. Two implementations, chosen once, by the instruction set:
//
//   kernels  Panels are copied (kernels.h) and every element is one chain of multiply-adds, so any
//            number of rows will do. All instruction sets but AMX.
//   oneDNN   chooses its blocking by the shape and the number of threads, so a product always has
//            one of a few fixed shapes, kTileRows rows among them, and runs on one thread. That
//            rows are independent is checked, not believed: when a shape first comes, it runs on
//            tiles of equal rows and of one row among NaN; if results differ, the kernels take the
//            shape over. The check depends on shape and instruction set only, so that the same
//            choice is made everywhere within a numerics class.
//
// Panels are made from the weights where they are, each time, so the base needs no second copy, in
// memory or on disk; trainer/README.md tells what that costs.
//
// Thread rule: all workers may call Prepare() and Run() at once, each with its own `worker` number
// and Workspace, within a KernelScope, which ThreadPool's tasks are.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_PRODUCTS_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_PRODUCTS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "trainer/backend/cpu/host_memory.h"
#include "trainer/backend/cpu/kernels/kernels.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

inline constexpr int64_t kTileRows = 128;

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A right-hand side. Element (p,j) is data[p * row + j], or data[j * row + p] if transposed, in the
// compute type.
struct RightSide {
  const void* data = nullptr;
  int64_t row = 0;
  bool transposed = false;
};

// `depth` rows of a right-hand side and some of its columns, ready for Run().
struct Panel {
  RightSide b;  // oneDNN's: where the panel begins.
  const void* packed = nullptr;
};

// a [rows,depth] times a panel.
struct PanelFactor {
  const void* a = nullptr;  // In the compute type; rows are a_row elements apart.
  int64_t a_row = 0;
  bool a_prepared = false;  // Or what PrepareTransposed() gave.
  Panel panel;
  int64_t depth = 0;
};

// out = initial + the factors' products, added in their order: f32 to `sums` or rounded to
// `rounded`, one of the two. Without `initial` the sum begins at zero; it may be `sums`.
struct PanelSum {
  absl::Span<const PanelFactor> factors;  // At most kPanelTermsMax.
  int64_t rows = 0;
  int64_t columns = 0;
  const float* initial = nullptr;
  int64_t initial_row = 0;
  float* sums = nullptr;
  void* rounded = nullptr;
  int64_t out_row = 0;
};

class Products {
 public:
  virtual ~Products() = default;

  // Columns of a panel, at most.
  virtual int64_t panel_columns() const = 0;
  // Depth of the factors of one Run, all together, at most.
  virtual int64_t depth_max() const = 0;
  // Sums over tokens run over this many at a time; if `pads_tokens`, the last ones are padded with
  // zeros.
  virtual int64_t token_tile() const = 0;
  virtual bool pads_tokens() const = 0;

  // Rows [first, first + depth), columns [column, column + columns) of b. Valid while b and what
  // `scratch` gave are.
  virtual Panel Prepare(const RightSide& b, int64_t first, int64_t depth, int64_t column,
                        int64_t columns, Workspace& scratch) const = 0;
  // The transpose of [tokens, columns], as the left side of a sum over at most token_tile() tokens;
  // rows of `a` are a_row elements apart, and at most kPanelColumns columns count.
  virtual const void* PrepareTransposed(const void* a, int64_t a_row, int64_t tokens,
                                        int64_t columns, Workspace& scratch) const = 0;
  virtual void Run(int worker, const PanelSum& sum) = 0;

  // What fixes the bits: "avx512bf16", "onednn-2.6.3-avx512_core_amx+avx512bf16".
  virtual std::string name() const = 0;
};

std::unique_ptr<Products> ProductsOfKernels(DType compute_type, int workers,
                                            const KernelSet& kernels);
// bf16 only.
std::unique_ptr<Products> ProductsOfOneDnn(int workers, const KernelSet& kernels);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_PRODUCTS_H_

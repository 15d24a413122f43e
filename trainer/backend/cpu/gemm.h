// ProductCache: matrix products whose rows are exact.
//
// A row of a product must have the same bits whatever else is in the batch, and however many
// threads work. oneDNN chooses its blocking by the shape and by the number of threads, so a product
// here always has one of a few fixed shapes and always runs on one thread: a tile of kTileRows rows
// by a panel of columns, the width of which is a fixed function of the number of columns. Tiles and
// panels are the tasks that are spread over threads. The last tile of a batch reads what lies
// behind the batch (row_alignment()); its rows are computed and not used.
//
// That rows are independent is checked, not believed: when a product is made it runs on tiles of
// equal rows, and of one row among NaN. Where results differ (in oneDNN's f32 product with
// transposed weights on AVX2 they do) a kernel of our own takes its place. The check depends on the
// shape and the instruction set only, so the same product is taken everywhere within a numerics
// class.
//
// Weights are read where they are: nothing is packed or copied. On machines that have no bf16
// arithmetic, tiles and panels of bf16 are widened to f32 in scratch first, which is exact.
//
// Thread rule: Get() is thread-safe; Product::Run() may be called by all workers at once, each with
// its own `worker` number. Both must run within a KernelScope, which ThreadPool's tasks do.

#ifndef DELTAWORKS_TRAINER_BACKEND_CPU_GEMM_H_
#define DELTAWORKS_TRAINER_BACKEND_CPU_GEMM_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "trainer/backend/cpu/host_memory.h"
#include "trainer/backend/cpu/kernels/kernels.h"
#include "trainer/base/mutex.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

inline constexpr int64_t kTileRows = 128;
// Columns of the widest panel.
inline constexpr int64_t kPanelMax = 256;

// Panels of equal width, a multiple of 64, the last one possibly narrower.
inline int64_t PanelWidth(int64_t columns) {
  const int64_t panels = (columns + kPanelMax - 1) / kPanelMax;
  return ((columns + panels - 1) / panels + 63) / 64 * 64;
}
inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// out [m,n] f32 = or += a [m,k] b [k,n], with a and b in the compute type.
struct ProductShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  // Element (i,p) of a is a[i * a_row + p * a_column]; one of the two is 1. b likewise.
  int64_t a_row = 0;
  int64_t a_column = 1;
  int64_t b_row = 0;
  int64_t b_column = 1;
  int64_t out_row = 0;
  bool accumulate = false;

  auto Key() const {
    return std::tie(m, n, k, a_row, a_column, b_row, b_column, out_row, accumulate);
  }
  bool operator<(const ProductShape& other) const { return Key() < other.Key(); }
};

// a [kTileRows,k] with rows `a_row` apart, times the transpose of n rows of a weight [N,k].
ProductShape TimesTransposed(int64_t n, int64_t k, int64_t a_row, int64_t out_row);
// a [kTileRows,k] times n columns of a weight [k, b_row].
ProductShape Times(int64_t n, int64_t k, int64_t a_row, int64_t b_row, int64_t out_row);
// The transpose of a [kTileRows,m], rows m apart, times n columns of b [kTileRows, b_row].
ProductShape TransposedTimes(int64_t m, int64_t n, int64_t b_row, int64_t out_row);

class Product {
 public:
  virtual ~Product() = default;
  virtual void Run(int worker, const void* a, const void* b, float* out) const = 0;
};

class ProductCache {
 public:
  ProductCache(DType compute_type, int workers, const KernelSet& kernels);
  ~ProductCache();
  ProductCache(const ProductCache&) = delete;
  ProductCache& operator=(const ProductCache&) = delete;

  // Made at the first request. Valid as long as the cache.
  const Product& Get(const ProductShape& shape) ABSL_LOCKS_EXCLUDED(mutex_);

  // The instruction set that oneDNN uses, for example "avx512_core_bf16", with "+f32" if bf16 is
  // widened to f32; and oneDNN's version.
  std::string isa_name() const;
  std::string library_version() const;

 private:
  struct Engine;
  class OneDnnProduct;
  class OwnProduct;
  class WideningProduct;

  std::unique_ptr<Product> Make(DType type, const ProductShape& shape) const;

  const DType compute_type_;
  const int workers_;
  const KernelSet& kernels_;
  const std::unique_ptr<Engine> engine_;
  Mutex mutex_;
  std::map<ProductShape, std::unique_ptr<Product>> products_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_CPU_GEMM_H_

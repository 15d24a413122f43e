// Gpu: what CudaBackend asks of one card: memory, copies, products, and whether all went well.
// Two of them: the card itself (card.cc: CUDA's runtime, and cuBLASLt loaded at run time), and
// plain loops in host memory for tests (emulation/emulated_gpu.cc), beside which the kernels run
// emulated. graphed_gpu.h stands before either of them.
//
// Everything happens in call order on one stream. Thread-compatible.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_GPU_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_GPU_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/backend/cuda/kernels/types.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer::cuda {

// A matrix in device memory, row-major: rows `stride` elements apart. Of a product it must begin at
// a multiple of 16 bytes, and so must each row.
struct Matrix {
  void* data = nullptr;
  int64_t stride = 0;
};

// out [rows, columns] (+)= a [rows, depth] b [depth, columns], where a is stored as [depth, rows]
// if a_transposed, and b as [columns, depth] if b_transposed. Sums are f32, rounded to `output`
// once.
//
// An element's bits depend on its own row of a and column of b only: not on `rows`, and not on
// further depth where the factors are zero. What is behind a row's end is neither read nor written.
struct Product {
  Matrix a;
  bool a_transposed = false;
  Matrix b;
  bool b_transposed = false;
  Matrix out;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;
  DType input = DType::kBF16;   // kF32, kBF16 or kF8E4M3.
  DType output = DType::kBF16;  // kF32, or the input's, or kBF16 for kF8E4M3.
  bool accumulate = false;      // += instead of =; output kF32, or kBF16 for kF8E4M3.
  // Of kF8E4M3, on the card: [rows] and [columns] factors of a's rows and b's columns. Then a is as
  // it is and b transposed.
  const float* a_scales = nullptr;
  const float* b_scales = nullptr;
};

// Of device memory, that a Gpu holds for its products.
inline constexpr int64_t kProductWorkspaceBytes = int64_t{64} << 20;

class Gpu {
 public:
  virtual ~Gpu() = default;

  // What fixes the bits of products and kernels: "sm90/cublaslt-130100".
  virtual std::string numerics() const = 0;
  virtual Stream stream() = 0;

  // Zeroed. ResourceExhausted if the card has no room.
  virtual absl::StatusOr<void*> Allocate(int64_t bytes) = 0;
  // Waits for all that was issued. nullptr is nothing.
  virtual void Free(void* memory) = 0;

  // `host` may change once the call returns.
  virtual void CopyToDevice(const void* host, void* device, int64_t bytes) = 0;
  // Rows of `row_bytes` that lie one behind the other, to rows that are `device_row_bytes` apart.
  virtual void CopyRowsToDevice(const void* host, int64_t rows, int64_t row_bytes, void* device,
                                int64_t device_row_bytes) = 0;
  // Waits for all that was issued.
  virtual void CopyToHost(const void* device, void* host, int64_t bytes) = 0;
  virtual void CopyOnDevice(const void* from, void* to, int64_t bytes) = 0;
  virtual void Zero(void* device, int64_t bytes) = 0;

  virtual void Multiply(const Product& product) = 0;

  // Says that `operation` has issued all it has to. The first one whose launch failed, or after
  // which the card was found at fault, is what Synchronize() names.
  virtual void Issued(const char* operation) = 0;
  // Waits for all that was issued. A fault is kept.
  virtual void Wait() = 0;
  // Waits, and tells the first fault as Internal; after one, FailedPrecondition.
  virtual absl::Status Synchronize() = 0;
};

// Launches, products, copies and zeros that a GraphGpu has kept.
class Graph {
 public:
  virtual ~Graph() = default;
};

// A Gpu that can keep what it is asked for, to do it as often as wanted (CUDA graphs).
class GraphGpu : public Gpu {
 public:
  // Memory of the host that the card reads by itself. ResourceExhausted.
  virtual absl::StatusOr<void*> AllocatePinned(int64_t bytes) = 0;
  virtual void FreePinned(void* memory) = 0;
  // From such memory, which is read when the copy happens: it must not change before a Wait().
  virtual void CopyPinnedToDevice(const void* pinned, void* device, int64_t bytes) = 0;

  // From here to EndGraph() nothing happens: launches, products, copies from pinned memory and on
  // the device, and zeros are kept. Nothing else may be asked for.
  virtual void BeginGraph() = 0;
  // nullptr, and a line in the log, if that went wrong; it leaves no fault behind.
  virtual std::unique_ptr<Graph> EndGraph() = 0;
  // Does all of it, in its order. `graph` lives until the next Wait() at least.
  virtual void Run(const Graph& graph) = 0;
};

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_GPU_H_

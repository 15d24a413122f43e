// cuBLASLt, loaded at run time: products of row-major matrices, exact in the sense of gpu.h.
//
// For each shape the library is asked once for its choices among algorithms that do not split the
// depth (the mask of reduction schemes is empty), and the first of the family below is kept. On
// Hopper all of those give the same bytes, whatever their tiles (tests/gpu/README.md), so which one
// is chosen is a matter of speed alone.
//
// Compiled by nvcc, for its headers. Thread-compatible.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_CUBLASLT_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_CUBLASLT_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/backend/cuda/gpu.h"

namespace deltaworks::trainer::cuda {

class CublasLt {
 public:
  virtual ~CublasLt() = default;

  // Looks for libcublasLt.so.13 at $DELTAWORKS_CUBLASLT_LIBRARY if it is set; else where the loader
  // does, in $CUDA_HOME/lib64 and in /usr/local/cuda/lib64. For the calling thread's device.
  //   FailedPrecondition  not found, or a symbol is missing: says where it looked.
  //   ResourceExhausted   no room for its workspace.
  static absl::StatusOr<std::unique_ptr<CublasLt>> Load();

  // As the library numbers itself: 130100 is 13.1.0.
  virtual int64_t version() const = 0;
  // Internal if the library refuses, with the shape.
  virtual absl::Status Multiply(const Product& product, cudaStream_t stream) = 0;
};

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_CUBLASLT_H_

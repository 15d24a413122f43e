// Matrices of tensors, and whether a product can read them where they are.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_MATRICES_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_MATRICES_H_

#include <cstdint>

#include "trainer/backend/cuda/gpu.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer::cuda {

// Depths of products are multiples of what a tensor core adds up at a time, so that what is behind
// them (adapter_plan.h) begins at one, and so that rows are whole 16 bytes.
inline constexpr int64_t kFilledMultiple = 16;
inline int64_t Filled(int64_t features) {
  return (features + kFilledMultiple - 1) / kFilledMultiple * kFilledMultiple;
}
inline bool IsFilled(int64_t features) { return features % kFilledMultiple == 0; }

// Of a tensor [rows, columns]. That it may be written is for the caller to know.
inline Matrix MatrixOf(const ConstTensorView& tensor) {
  return {const_cast<void*>(tensor.data), tensor.dim(1)};
}

// Calls function with a value of the compute type's element.
template <typename Function>
void WithElement(DType type, const Function& function) {
  if (type == DType::kBF16) {
    function(Bf16{});
  } else {
    function(float{});
  }
}

inline Matrix Offset(const Matrix& matrix, DType type, int64_t row, int64_t column) {
  return {static_cast<char*>(matrix.data) + (row * matrix.stride + column) * SizeOf(type),
          matrix.stride};
}

// Whether a matrix of `columns` columns of T can be an operand of a product, in full columns.
template <typename T>
bool IsProductOperand(const Matrix& matrix, int64_t columns) {
  return IsFilled(columns) && IsFilled(matrix.stride) &&
         reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0;
}

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_MATRICES_H_

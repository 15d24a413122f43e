// Linears that read the same input, with the adapters of their segments (backend.h has the
// contract, kernels/adapters.h how adapters become columns of the products).

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_LINEAR_GROUP_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_LINEAR_GROUP_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/backend/cuda/gpu.h"
#include "trainer/backend/cuda/matrices.h"
#include "trainer/backend/cuda/scratch.h"

namespace deltaworks::trainer::cuda {

// Columns for adapters that each packed linear of f32 or bf16 has behind its own, and as many rows.
inline constexpr int64_t kAdapterRoom = 256;

// Linears of a group in the models that there are.
inline constexpr int64_t kGroupLinearsMax = 3;

// Rows of e4m3 with a scale each (trainer/backend/fp8.h).
struct Fp8Matrix {
  Matrix codes;
  float* scales = nullptr;
};

// W [N, K] on the card: in f32 or bf16 in a matrix [Filled(N) + room, Filled(K) + room] whose other
// elements are 0 or those of the last operation's adapters; or in fp8, once as W, once as its
// transpose.
class PackedLinear final : public FrozenLinear {
 public:
  // `weight` is in the host's memory; `room` is kAdapterRoom, or 0 for a table. ResourceExhausted
  // if the card has no room.
  static absl::StatusOr<std::unique_ptr<PackedLinear>> Create(std::shared_ptr<Gpu> gpu,
                                                              const ConstTensorView& weight,
                                                              int64_t room);
  // `weight` in bf16.
  static absl::StatusOr<std::unique_ptr<PackedLinear>> CreateFp8(std::shared_ptr<Gpu> gpu,
                                                                 const ConstTensorView& weight);
  ~PackedLinear() override { gpu_->Free(data_); }
  PackedLinear(const PackedLinear&) = delete;
  PackedLinear& operator=(const PackedLinear&) = delete;

  int64_t n() const override { return n_; }
  int64_t k() const override { return k_; }
  int64_t device_bytes() const override { return bytes_; }
  bool fp8() const { return forward_.scales != nullptr; }
  // Not of fp8.
  const Matrix& matrix() const { return matrix_; }
  // Of fp8: [Filled(N), Filled(K)] with a scale of each output feature, [Filled(K), Filled(N)] with
  // one of each input feature.
  const Fp8Matrix& forward() const { return forward_; }
  const Fp8Matrix& backward() const { return backward_; }

 private:
  PackedLinear(std::shared_ptr<Gpu> gpu, int64_t n, int64_t k)
      : gpu_(std::move(gpu)), n_(n), k_(k) {}
  absl::Status Allocate(int64_t bytes);

  const std::shared_ptr<Gpu> gpu_;
  const int64_t n_, k_;
  int64_t bytes_ = 0;
  void* data_ = nullptr;
  Matrix matrix_;
  Fp8Matrix forward_, backward_;
};

inline const PackedLinear& PackedOf(const FrozenLinear& linear) {
  return static_cast<const PackedLinear&>(linear);
}

// What operations work with. Both outlive it.
struct Context {
  Gpu& gpu;
  Scratch& scratch;
  DType type;  // The compute type.
};

using Linears = absl::Span<const FrozenLinear* const>;

void ForwardLinears(const Context& context, Linears group, absl::Span<const Segment> segments,
                    const ConstTensorView& x, const TensorView& hidden,
                    absl::Span<const TensorView> y);
void BackwardLinears(const Context& context, Linears group, absl::Span<const Segment> segments,
                     const ConstTensorView& x, const ConstTensorView& hidden,
                     absl::Span<const ConstTensorView> dy, const TensorView& dhidden,
                     const TensorView& dx);

// An upper bound of the scratch of both.
int64_t LinearScratchBytes(DType type, bool fp8, const PassShape& pass);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_LINEAR_GROUP_H_

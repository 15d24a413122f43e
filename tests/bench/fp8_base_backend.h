// Fp8BaseBackend: training over a base in fp8, on a backend of f32 in the host's memory: what eight
// bits do to a loss can be measured without a GPU. Products with the frozen linears read the values
// that codes and scales stand for (trainer/backend/fp8.h), everything else is f32; so the numbers
// are near those of CudaBackend in fp8, which does everything else in bf16, not equal to them. The
// adapters' part is multiplied beside a linear of zeros: slow.
//
// Thread-compatible; `backend` must outlive it.

#ifndef DELTAWORKS_TESTS_BENCH_FP8_BASE_BACKEND_H_
#define DELTAWORKS_TESTS_BENCH_FP8_BASE_BACKEND_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "trainer/testing/forwarding_backend.h"

namespace deltaworks::trainer {

class Fp8BaseBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  std::string numerics_class() const override {
    return absl::StrCat(ForwardingBackend::numerics_class(), "/fp8");
  }
  absl::StatusOr<std::unique_ptr<FrozenLinear>> Pack(ConstTensorView weight) override;
  void LinearGroupForward(absl::Span<const FrozenLinear* const> group,
                          absl::Span<const Segment> segments, ConstTensorView x, TensorView hidden,
                          absl::Span<const TensorView> y, ProductPath path) override;
  void LinearGroupBackward(absl::Span<const FrozenLinear* const> group,
                           absl::Span<const Segment> segments, ConstTensorView x,
                           ConstTensorView hidden, absl::Span<const ConstTensorView> dy,
                           TensorView dhidden, TensorView dx) override;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_BENCH_FP8_BASE_BACKEND_H_

// TracingBackend: another backend, and a line for every operation with the shapes it was given. Two
// passes with equal traces asked for the same work.
//
// Thread-compatible. The backend behind it must outlive it.

#ifndef DELTAWORKS_TESTS_BENCH_DECODE_TRACING_BACKEND_H_
#define DELTAWORKS_TESTS_BENCH_DECODE_TRACING_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trainer/backend/backend.h"
#include "trainer/testing/forwarding_backend.h"

namespace deltaworks::trainer {

class TracingBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  // The operations since the last time.
  std::vector<std::string> TakeTrace();
  // Buffers so far; not a part of the trace.
  int64_t allocations() const { return allocations_; }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes) override {
    ++allocations_;
    return ForwardingBackend::Allocate(bytes);
  }
  void CopyToDevice(const void* host, TensorView device) override;
  void CopyToHost(ConstTensorView device, void* host) override;
  void LinearGroupForward(absl::Span<const FrozenLinear* const> group,
                          absl::Span<const Segment> segments, ConstTensorView x, TensorView hidden,
                          absl::Span<const TensorView> y, ProductPath path) override;
  void LinearGroupBackward(absl::Span<const FrozenLinear* const> group,
                           absl::Span<const Segment> segments, ConstTensorView x,
                           ConstTensorView hidden, absl::Span<const ConstTensorView> dy,
                           TensorView dhidden, TensorView dx) override;
  void Embed(const FrozenLinear& table, ConstTensorView ids, TensorView out) override;
  void RmsNormForward(ConstTensorView x, ConstTensorView weight, double epsilon, TensorView y,
                      TensorView rstd) override;
  void RmsNormBackward(ConstTensorView x, ConstTensorView weight, ConstTensorView rstd,
                       ConstTensorView dy, TensorView dx) override;
  void AddResidual(ConstTensorView x, ConstTensorView y, TensorView out) override;
  void Round(ConstTensorView x, TensorView y) override;
  void Rope(TensorView x, int64_t heads, ConstTensorView positions, ConstTensorView cosines,
            ConstTensorView sines, bool inverse) override;
  void AttentionForward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                        ConstTensorView q, ConstTensorView k, ConstTensorView v, TensorView out,
                        TensorView lse, ProductPath path) override;
  void AttentionBackward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                         ConstTensorView q, ConstTensorView k, ConstTensorView v,
                         ConstTensorView out, ConstTensorView lse, ConstTensorView dout,
                         TensorView dq, TensorView dk, TensorView dv) override;
  void SwigluForward(ConstTensorView gate, ConstTensorView up, TensorView out) override;
  void SwigluBackward(ConstTensorView gate, ConstTensorView up, ConstTensorView dout,
                      TensorView dgate, TensorView dup) override;
  void GatherRows(ConstTensorView x, ConstTensorView rows, TensorView out) override;
  void ScatterRows(ConstTensorView x, ConstTensorView rows, TensorView out) override;
  void CrossEntropy(const FrozenLinear& output, ConstTensorView x, ConstTensorView labels,
                    ConstTensorView weights, TensorView losses, TensorView dx) override;
  void Logits(const FrozenLinear& output, ConstTensorView x, TensorView logits,
              ProductPath path) override;
  void ArgMax(ConstTensorView x, TensorView places) override;
  double SumOfSquares(ConstTensorView x) override;
  void AdamW(const AdamWSettings& settings, ConstTensorView gradient, TensorView parameter,
             TensorView m, TensorView v) override;
  void Fill(TensorView x, double value) override;
  void Copy(ConstTensorView from, TensorView to) override;
  absl::Status Synchronize() override { return ForwardingBackend::Synchronize(); }

 private:
  template <typename... Parts>
  void Trace(const Parts&... parts);

  std::vector<std::string> trace_;
  int64_t allocations_ = 0;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_BENCH_DECODE_TRACING_BACKEND_H_

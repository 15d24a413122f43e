// ForwardingBackend: does as another backend, for tests and measurements that change one thing of
// it. As thread-compatible as that, which must outlive it.

#ifndef DELTAWORKS_TRAINER_TESTING_FORWARDING_BACKEND_H_
#define DELTAWORKS_TRAINER_TESTING_FORWARDING_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/tensor.h"

namespace deltaworks::trainer {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(Backend& backend) : backend_(backend) {}

  DType compute_type() const override { return backend_.compute_type(); }
  DType wide_type() const override { return backend_.wide_type(); }
  std::string numerics_class() const override { return backend_.numerics_class(); }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes) override {
    return backend_.Allocate(bytes);
  }
  int64_t ScratchBytes(const PassShape& pass) const override { return backend_.ScratchBytes(pass); }
  absl::Status ReserveScratch(const PassShape& pass) override {
    return backend_.ReserveScratch(pass);
  }
  void CopyToDevice(const void* host, TensorView device) override {
    backend_.CopyToDevice(host, std::move(device));
  }
  void CopyToHost(ConstTensorView device, void* host) override {
    backend_.CopyToHost(std::move(device), host);
  }
  absl::StatusOr<std::unique_ptr<FrozenLinear>> Pack(ConstTensorView weight) override {
    return backend_.Pack(std::move(weight));
  }
  absl::StatusOr<std::unique_ptr<FrozenLinear>> PackTable(ConstTensorView weight) override {
    return backend_.PackTable(std::move(weight));
  }
  void LinearGroupForward(absl::Span<const FrozenLinear* const> group,
                          absl::Span<const Segment> segments, ConstTensorView x, TensorView hidden,
                          absl::Span<const TensorView> y, ProductPath path) override {
    backend_.LinearGroupForward(group, segments, x, hidden, y, path);
  }
  void LinearGroupBackward(absl::Span<const FrozenLinear* const> group,
                           absl::Span<const Segment> segments, ConstTensorView x,
                           ConstTensorView hidden, absl::Span<const ConstTensorView> dy,
                           TensorView dhidden, TensorView dx) override {
    backend_.LinearGroupBackward(group, segments, x, hidden, dy, dhidden, dx);
  }
  void Embed(const FrozenLinear& table, ConstTensorView ids, TensorView out) override {
    backend_.Embed(table, ids, out);
  }
  void RmsNormForward(ConstTensorView x, ConstTensorView weight, double epsilon, TensorView y,
                      TensorView rstd) override {
    backend_.RmsNormForward(x, weight, epsilon, y, rstd);
  }
  void RmsNormBackward(ConstTensorView x, ConstTensorView weight, ConstTensorView rstd,
                       ConstTensorView dy, TensorView dx) override {
    backend_.RmsNormBackward(x, weight, rstd, dy, dx);
  }
  void AddResidual(ConstTensorView x, ConstTensorView y, TensorView out) override {
    backend_.AddResidual(x, y, out);
  }
  void Round(ConstTensorView x, TensorView y) override { backend_.Round(x, y); }
  void Rope(TensorView x, int64_t heads, ConstTensorView positions, ConstTensorView cosines,
            ConstTensorView sines, bool inverse) override {
    backend_.Rope(x, heads, positions, cosines, sines, inverse);
  }
  void AttentionForward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                        ConstTensorView q, ConstTensorView k, ConstTensorView v, TensorView out,
                        TensorView lse, ProductPath path) override {
    backend_.AttentionForward(shape, spans, q, k, v, out, lse, path);
  }
  void AttentionBackward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                         ConstTensorView q, ConstTensorView k, ConstTensorView v,
                         ConstTensorView out, ConstTensorView lse, ConstTensorView dout,
                         TensorView dq, TensorView dk, TensorView dv) override {
    backend_.AttentionBackward(shape, spans, q, k, v, out, lse, dout, dq, dk, dv);
  }
  void SwigluForward(ConstTensorView gate, ConstTensorView up, TensorView out) override {
    backend_.SwigluForward(gate, up, out);
  }
  void SwigluBackward(ConstTensorView gate, ConstTensorView up, ConstTensorView dout,
                      TensorView dgate, TensorView dup) override {
    backend_.SwigluBackward(gate, up, dout, dgate, dup);
  }
  void GatherRows(ConstTensorView x, ConstTensorView rows, TensorView out) override {
    backend_.GatherRows(x, rows, out);
  }
  void ScatterRows(ConstTensorView x, ConstTensorView rows, TensorView out) override {
    backend_.ScatterRows(x, rows, out);
  }
  void CrossEntropy(const FrozenLinear& output, ConstTensorView x, ConstTensorView labels,
                    ConstTensorView weights, TensorView losses, TensorView dx) override {
    backend_.CrossEntropy(output, x, labels, weights, losses, dx);
  }
  void Logits(const FrozenLinear& output, ConstTensorView x, TensorView logits,
              ProductPath path) override {
    backend_.Logits(output, x, logits, path);
  }
  void ArgMax(ConstTensorView x, TensorView places) override { backend_.ArgMax(x, places); }
  double SumOfSquares(ConstTensorView x) override { return backend_.SumOfSquares(x); }
  void AdamW(const AdamWSettings& settings, ConstTensorView gradient, TensorView parameter,
             TensorView m, TensorView v) override {
    backend_.AdamW(settings, gradient, parameter, m, v);
  }
  void Fill(TensorView x, double value) override { backend_.Fill(x, value); }
  void Copy(ConstTensorView from, TensorView to) override { backend_.Copy(from, to); }
  absl::Status Synchronize() override { return backend_.Synchronize(); }

 protected:
  Backend& backend() const { return backend_; }

 private:
  Backend& backend_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_TESTING_FORWARDING_BACKEND_H_

// FaultyBackend: another backend whose device fails when a test says so. Thread-compatible.

#ifndef DELTAWORKS_SERVICES_WORKER_TESTING_FAULTY_BACKEND_H_
#define DELTAWORKS_SERVICES_WORKER_TESTING_FAULTY_BACKEND_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "trainer/backend/backend.h"

namespace deltaworks::services {

// What is wrong with a device, whichever backend it has by now.
struct DeviceFaults {
  absl::Status at_synchronize;           // Of the next one; after it that backend is dead.
  absl::Status at_allocate;              // While it is not OK.
  std::function<void()> in_synchronize;  // Called in each, so that a pass takes time.
  int backends_made = 0;
};

class FaultyBackend final : public trainer::Backend {
 public:
  using View = trainer::TensorView;
  using ConstView = trainer::ConstTensorView;

  // `faults` must outlive it.
  FaultyBackend(std::unique_ptr<trainer::Backend> backend, DeviceFaults& faults)
      : backend_(std::move(backend)), faults_(faults) {
    ++faults_.backends_made;
  }

  absl::Status Synchronize() override {
    if (dead_) return absl::FailedPreconditionError("the backend is dead");
    if (faults_.in_synchronize) faults_.in_synchronize();
    const absl::Status fault = std::exchange(faults_.at_synchronize, absl::OkStatus());
    dead_ = !fault.ok();
    return dead_ ? fault : backend_->Synchronize();
  }
  absl::StatusOr<std::unique_ptr<trainer::DeviceBuffer>> Allocate(int64_t bytes) override {
    if (!faults_.at_allocate.ok()) return faults_.at_allocate;
    return backend_->Allocate(bytes);
  }

  // ---- As the other backend does ----

  trainer::DType compute_type() const override { return backend_->compute_type(); }
  trainer::DType wide_type() const override { return backend_->wide_type(); }
  std::string numerics_class() const override { return backend_->numerics_class(); }
  int64_t ScratchBytes(const trainer::PassShape& pass) const override {
    return backend_->ScratchBytes(pass);
  }
  absl::Status ReserveScratch(const trainer::PassShape& pass) override {
    const int64_t bytes = pass.rows == 0 ? 0 : backend_->ScratchBytes(pass);
    if (!faults_.at_allocate.ok() && bytes > scratch_bytes_) return faults_.at_allocate;
    scratch_bytes_ = bytes == 0 ? 0 : std::max(bytes, scratch_bytes_);
    return backend_->ReserveScratch(pass);
  }
  void CopyToDevice(const void* host, View device) override {
    backend_->CopyToDevice(host, std::move(device));
  }
  void CopyToHost(ConstView device, void* host) override {
    backend_->CopyToHost(std::move(device), host);
  }
  absl::StatusOr<std::unique_ptr<trainer::FrozenLinear>> Pack(ConstView weight) override {
    return backend_->Pack(std::move(weight));
  }
  void LinearGroupForward(absl::Span<const trainer::FrozenLinear* const> group,
                          absl::Span<const trainer::Segment> segments, ConstView x, View hidden,
                          absl::Span<const View> y, trainer::ProductPath path) override {
    backend_->LinearGroupForward(group, segments, x, hidden, y, path);
  }
  void LinearGroupBackward(absl::Span<const trainer::FrozenLinear* const> group,
                           absl::Span<const trainer::Segment> segments, ConstView x,
                           ConstView hidden, absl::Span<const ConstView> dy, View dhidden,
                           View dx) override {
    backend_->LinearGroupBackward(group, segments, x, hidden, dy, dhidden, dx);
  }
  void Embed(const trainer::FrozenLinear& table, ConstView ids, View out) override {
    backend_->Embed(table, ids, out);
  }
  void RmsNormForward(ConstView x, ConstView weight, double epsilon, View y, View rstd) override {
    backend_->RmsNormForward(x, weight, epsilon, y, rstd);
  }
  void RmsNormBackward(ConstView x, ConstView weight, ConstView rstd, ConstView dy,
                       View dx) override {
    backend_->RmsNormBackward(x, weight, rstd, dy, dx);
  }
  void AddResidual(ConstView x, ConstView y, View out) override {
    backend_->AddResidual(x, y, out);
  }
  void Round(ConstView x, View y) override { backend_->Round(x, y); }
  void Rope(View x, int64_t heads, ConstView positions, ConstView cosines, ConstView sines,
            bool inverse) override {
    backend_->Rope(x, heads, positions, cosines, sines, inverse);
  }
  void AttentionForward(const trainer::AttentionShape& shape,
                        absl::Span<const trainer::AttentionSpan> spans, ConstView q, ConstView k,
                        ConstView v, View out, View lse, trainer::ProductPath path) override {
    backend_->AttentionForward(shape, spans, q, k, v, out, lse, path);
  }
  void AttentionBackward(const trainer::AttentionShape& shape,
                         absl::Span<const trainer::AttentionSpan> spans, ConstView q, ConstView k,
                         ConstView v, ConstView out, ConstView lse, ConstView dout, View dq,
                         View dk, View dv) override {
    backend_->AttentionBackward(shape, spans, q, k, v, out, lse, dout, dq, dk, dv);
  }
  void SwigluForward(ConstView gate, ConstView up, View out) override {
    backend_->SwigluForward(gate, up, out);
  }
  void SwigluBackward(ConstView gate, ConstView up, ConstView dout, View dgate, View dup) override {
    backend_->SwigluBackward(gate, up, dout, dgate, dup);
  }
  void GatherRows(ConstView x, ConstView rows, View out) override {
    backend_->GatherRows(x, rows, out);
  }
  void ScatterRows(ConstView x, ConstView rows, View out) override {
    backend_->ScatterRows(x, rows, out);
  }
  void CrossEntropy(const trainer::FrozenLinear& output, ConstView x, ConstView labels,
                    ConstView weights, View losses, View dx) override {
    backend_->CrossEntropy(output, x, labels, weights, losses, dx);
  }
  void Logits(const trainer::FrozenLinear& output, ConstView x, View logits,
              trainer::ProductPath path) override {
    backend_->Logits(output, x, logits, path);
  }
  double SumOfSquares(ConstView x) override { return backend_->SumOfSquares(x); }
  void AdamW(const trainer::AdamWSettings& settings, ConstView gradient, View parameter, View m,
             View v) override {
    backend_->AdamW(settings, gradient, parameter, m, v);
  }
  void Fill(View x, double value) override { backend_->Fill(x, value); }
  void Copy(ConstView from, View to) override { backend_->Copy(from, to); }

 private:
  int64_t scratch_bytes_ = 0;  // Reserved.
  const std::unique_ptr<trainer::Backend> backend_;
  DeviceFaults& faults_;
  bool dead_ = false;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_TESTING_FAULTY_BACKEND_H_

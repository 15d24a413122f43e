// CountingBackend: a Backend that does nothing but count: of each operation the calls, the FLOPs of
// its matrix products, the bytes of its tensors, and the time of both at a card's peaks.
//
// Bytes are those of the operation's contract (backend.h): each input is read once and each output
// written once, += being both. What an implementation writes and reads again beside that (copies of
// inputs with room for adapters, logits, f32 sums) is not in them: it is what can be won. A call
// takes max(FLOPs / matrix peak, bytes / bandwidth), calls follow one another, and all bytes come
// from memory: a tensor that the next call still finds in the card's cache costs less than this.
//
// The linears of a group and its adapters are counted apart. The adapters' share reads x (and dy) a
// second time, since y = x W^T + hidden B^T needs hidden = x A^T first:
//   forward   hidden = x A^T; hidden B^T goes to y with the sum of the base
//   backward  dhidden = dy B; dB += dy^T hidden; dA += dhidden^T x; dhidden A goes to dx likewise
//
// Memory is that of another backend, which is asked for it and for nothing else; views are never
// read, so their addresses need not exist (NullGpu of plan_memory.h). Thread-compatible; `memory`
// must outlive it.

#ifndef DELTAWORKS_TESTS_GPU_ROOFLINE_H_
#define DELTAWORKS_TESTS_GPU_ROOFLINE_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "trainer/backend/backend.h"
#include "trainer/tensor.h"
#include "trainer/testing/forwarding_backend.h"

namespace deltaworks::trainer {

struct CardPeaks {
  double flops_per_second = 0;  // Of matrix products in the compute type.
  double bytes_per_second = 0;  // Read + written.
  // Of products with frozen linears, if those are in fp8: then each element is a byte.
  double fp8_flops_per_second = 0;
};

struct OperationCount {
  int64_t calls = 0;
  double flops = 0;
  double bytes = 0;
  double seconds = 0;
};

class CountingBackend final : public ForwardingBackend {
 public:
  CountingBackend(Backend& memory, const CardPeaks& peaks)
      : ForwardingBackend(memory), peaks_(peaks) {}

  // By the names that train_benchmark --profile has, with " base" or " adapters" behind those of
  // linears.
  const std::map<std::string, OperationCount>& counts() const { return counts_; }
  OperationCount sum() const;
  void Clear() { counts_.clear(); }

  // Copies of the host are not counted. What is read is zero.
  void CopyToDevice(const void*, TensorView) override {}
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
  // Zero.
  void ArgMax(ConstTensorView x, TensorView places) override;
  double SumOfSquares(ConstTensorView x) override;
  void AdamW(const AdamWSettings& settings, ConstTensorView gradient, TensorView parameter,
             TensorView m, TensorView v) override;
  void Fill(TensorView x, double value) override;
  void Copy(ConstTensorView from, TensorView to) override;
  absl::Status Synchronize() override { return absl::OkStatus(); }

 private:
  void Count(const std::string& operation, double flops, double bytes);
  // Products with frozen linears, `elements` of which are read.
  void CountBase(const std::string& operation, double flops, double elements, double other_bytes);
  void CountAt(double flops_per_second, const std::string& operation, double flops, double bytes);
  double WeightBytes(const FrozenLinear& table) const;

  const CardPeaks peaks_;
  std::map<std::string, OperationCount> counts_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_GPU_ROOFLINE_H_

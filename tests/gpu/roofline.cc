#include "tests/gpu/roofline.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>

namespace deltaworks::trainer {
namespace {

// Of tensors that are there.
double Bytes(std::initializer_list<ConstTensorView> tensors) {
  double bytes = 0;
  for (const ConstTensorView& tensor : tensors) {
    if (tensor.data != nullptr) bytes += static_cast<double>(tensor.bytes());
  }
  return bytes;
}

double Product(int64_t rows, int64_t columns, int64_t depth) {
  return 2.0 * static_cast<double>(rows) * static_cast<double>(columns) *
         static_cast<double>(depth);
}

double MatrixBytes(int64_t rows, int64_t columns, DType type) {
  return static_cast<double>(rows) * static_cast<double>(columns) *
         static_cast<double>(SizeOf(type));
}

double Elements(const FrozenLinear& linear) {
  return static_cast<double>(linear.n()) * static_cast<double>(linear.k());
}

// Pairs of a query and a key that it sees.
double SeenPairs(const AttentionShape& shape, absl::Span<const AttentionSpan> spans) {
  double pairs = 0;
  for (const AttentionSpan& span : spans) {
    const auto queries = static_cast<double>(span.query_end - span.query_begin);
    const auto keys = static_cast<double>(span.key_end - span.key_begin);
    pairs += queries * keys - (shape.causal ? queries * (queries - 1) / 2 : 0);
  }
  return pairs;
}

// One product between queries and keys, for all heads.
double AttentionProduct(const AttentionShape& shape, absl::Span<const AttentionSpan> spans) {
  return 2 * SeenPairs(shape, spans) * static_cast<double>(shape.query_heads * shape.head_dim);
}

}  // namespace

OperationCount CountingBackend::sum() const {
  OperationCount sum;
  for (const auto& [operation, count] : counts_) {
    sum.calls += count.calls;
    sum.flops += count.flops;
    sum.bytes += count.bytes;
    sum.seconds += count.seconds;
  }
  return sum;
}

void CountingBackend::Count(const std::string& operation, double flops, double bytes) {
  CountAt(peaks_.flops_per_second, operation, flops, bytes);
}

void CountingBackend::CountAt(double flops_per_second, const std::string& operation, double flops,
                              double bytes) {
  OperationCount& count = counts_[operation];
  ++count.calls;
  count.flops += flops;
  count.bytes += bytes;
  count.seconds += std::max(flops / flops_per_second, bytes / peaks_.bytes_per_second);
}

void CountingBackend::CountBase(const std::string& operation, double flops, double elements,
                                double other_bytes) {
  if (peaks_.fp8_flops_per_second > 0) {
    CountAt(peaks_.fp8_flops_per_second, operation, flops, elements + other_bytes);
  } else {
    Count(operation, flops, elements * static_cast<double>(SizeOf(compute_type())) + other_bytes);
  }
}

double CountingBackend::WeightBytes(const FrozenLinear& table) const {
  return MatrixBytes(table.n(), table.k(), compute_type());
}

void CountingBackend::CopyToHost(ConstTensorView device, void* host) {
  std::memset(host, 0, device.bytes());
}

void CountingBackend::LinearGroupForward(absl::Span<const FrozenLinear* const> group,
                                         absl::Span<const Segment> segments, ConstTensorView x,
                                         TensorView, absl::Span<const TensorView> y, ProductPath) {
  const int64_t rows = x.dim(0), k = x.dim(1);
  double flops = 0, elements = 0, bytes = Bytes({x});
  for (size_t i = 0; i < group.size(); ++i) {
    flops += Product(rows, group[i]->n(), k);
    elements += Elements(*group[i]);
    bytes += Bytes({y[i]});
  }
  CountBase("LinearGroupForward base", flops, elements, bytes);

  flops = bytes = 0;
  for (const Segment& segment : segments) {
    if (segment.hidden_width() == 0) continue;
    const int64_t own = segment.row_end - segment.row_begin;
    // x once; hidden is written, then read.
    bytes += MatrixBytes(own, k + 2 * segment.hidden_width(), compute_type());
    for (size_t i = 0; i < group.size(); ++i) {
      const LoraPair* pair = segment.adapters[i];
      if (pair == nullptr) continue;
      flops += Product(own, pair->rank(), k + group[i]->n());
      bytes += Bytes({pair->a, pair->b});
    }
  }
  if (flops > 0) Count("LinearGroupForward adapters", flops, bytes);
}

void CountingBackend::LinearGroupBackward(absl::Span<const FrozenLinear* const> group,
                                          absl::Span<const Segment> segments, ConstTensorView x,
                                          ConstTensorView, absl::Span<const ConstTensorView> dy,
                                          TensorView, TensorView dx) {
  const int64_t rows = x.dim(0), k = x.dim(1);
  const bool needs_dx = dx.data != nullptr;
  double flops = 0, elements = 0, bytes = 0;
  if (needs_dx) {
    bytes = Bytes({dx});
    for (size_t i = 0; i < group.size(); ++i) {
      flops += Product(rows, group[i]->n(), k);
      elements += Elements(*group[i]);
      bytes += Bytes({dy[i]});
    }
    CountBase("LinearGroupBackward base", flops, elements, bytes);
  }

  flops = bytes = 0;
  for (const Segment& segment : segments) {
    if (segment.hidden_width() == 0) continue;
    const int64_t own = segment.row_end - segment.row_begin;
    // x and hidden once; dhidden is written, then read.
    bytes += MatrixBytes(own, k + 3 * segment.hidden_width(), compute_type());
    for (size_t i = 0; i < group.size(); ++i) {
      const LoraPair* pair = segment.adapters[i];
      if (pair == nullptr) continue;
      const int64_t n = group[i]->n();
      // dhidden and dB; dA and, if wanted, dx.
      flops += Product(own, pair->rank(), 2 * n + (needs_dx ? 2 : 1) * k);
      bytes += MatrixBytes(own, n, compute_type()) + Bytes({pair->b, pair->da, pair->db}) +
               Bytes({pair->da, pair->db});
      if (needs_dx) bytes += Bytes({pair->a});
    }
  }
  if (flops > 0) Count("LinearGroupBackward adapters", flops, bytes);
}

void CountingBackend::Embed(const FrozenLinear& table, ConstTensorView ids, TensorView out) {
  Count("Embed", 0, Bytes({ids, out}) + MatrixBytes(ids.dim(0), table.k(), compute_type()));
}

void CountingBackend::RmsNormForward(ConstTensorView x, ConstTensorView weight, double,
                                     TensorView y, TensorView rstd) {
  Count("RmsNormForward", 0, Bytes({x, weight, y, rstd}));
}

void CountingBackend::RmsNormBackward(ConstTensorView x, ConstTensorView weight,
                                      ConstTensorView rstd, ConstTensorView dy, TensorView dx) {
  Count("RmsNormBackward", 0, Bytes({x, weight, rstd, dy, dx, dx}));
}

void CountingBackend::AddResidual(ConstTensorView x, ConstTensorView y, TensorView out) {
  Count("AddResidual", 0, Bytes({x, y, out}));
}

void CountingBackend::Round(ConstTensorView x, TensorView y) { Count("Round", 0, Bytes({x, y})); }

void CountingBackend::Rope(TensorView x, int64_t, ConstTensorView positions,
                           ConstTensorView cosines, ConstTensorView, bool) {
  // Of each table, the rows of these positions at most.
  const int64_t rows = std::min(positions.dim(0), cosines.dim(0));
  Count("Rope", 0, Bytes({x, x, positions}) + 2 * MatrixBytes(rows, cosines.dim(1), cosines.dtype));
}

void CountingBackend::AttentionForward(const AttentionShape& shape,
                                       absl::Span<const AttentionSpan> spans, ConstTensorView q,
                                       ConstTensorView k, ConstTensorView v, TensorView out,
                                       TensorView lse, ProductPath) {
  // q k^T and p v.
  Count("AttentionForward", 2 * AttentionProduct(shape, spans), Bytes({q, k, v, out, lse}));
}

void CountingBackend::AttentionBackward(const AttentionShape& shape,
                                        absl::Span<const AttentionSpan> spans, ConstTensorView q,
                                        ConstTensorView k, ConstTensorView v, ConstTensorView out,
                                        ConstTensorView lse, ConstTensorView dout, TensorView dq,
                                        TensorView dk, TensorView dv) {
  // q k^T again, dout v^T, and one each for dq, dk, dv.
  Count("AttentionBackward", 5 * AttentionProduct(shape, spans),
        Bytes({q, k, v, out, lse, dout, dq, dk, dv}));
}

void CountingBackend::SwigluForward(ConstTensorView gate, ConstTensorView up, TensorView out) {
  Count("SwigluForward", 0, Bytes({gate, up, out}));
}

void CountingBackend::SwigluBackward(ConstTensorView gate, ConstTensorView up, ConstTensorView dout,
                                     TensorView dgate, TensorView dup) {
  Count("SwigluBackward", 0, Bytes({gate, up, dout, dgate, dup}));
}

void CountingBackend::GatherRows(ConstTensorView, ConstTensorView rows, TensorView out) {
  Count("GatherRows", 0, Bytes({rows, out, out}));
}

void CountingBackend::ScatterRows(ConstTensorView x, ConstTensorView rows, TensorView) {
  Count("ScatterRows", 0, Bytes({x, rows, x}));
}

void CountingBackend::CrossEntropy(const FrozenLinear& output, ConstTensorView x,
                                   ConstTensorView labels, ConstTensorView weights,
                                   TensorView losses, TensorView dx) {
  const double products = dx.data == nullptr ? 1 : 2;
  Count("CrossEntropy", products * Product(x.dim(0), output.n(), output.k()),
        WeightBytes(output) + Bytes({x, labels, weights, losses, dx}));
}

void CountingBackend::Logits(const FrozenLinear& output, ConstTensorView x, TensorView logits,
                             ProductPath) {
  Count("Logits", Product(x.dim(0), output.n(), output.k()),
        WeightBytes(output) + Bytes({x, logits}));
}

void CountingBackend::ArgMax(ConstTensorView x, TensorView places) {
  Count("ArgMax", 0, Bytes({x, places}));
}

double CountingBackend::SumOfSquares(ConstTensorView x) {
  Count("SumOfSquares", 0, Bytes({x}));
  return 0;
}

void CountingBackend::AdamW(const AdamWSettings&, ConstTensorView gradient, TensorView parameter,
                            TensorView m, TensorView v) {
  Count("AdamW", 0, Bytes({gradient, parameter, m, v}) + Bytes({parameter, m, v}));
}

void CountingBackend::Fill(TensorView x, double) { Count("Fill", 0, Bytes({x})); }

void CountingBackend::Copy(ConstTensorView from, TensorView to) {
  Count("Copy", 0, Bytes({from, to}));
}

}  // namespace deltaworks::trainer

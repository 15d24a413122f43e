#include "tests/bench/decode/tracing_backend.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace deltaworks::trainer {
namespace {

template <typename Pointer>
std::string Shape(const BasicTensorView<Pointer>& view) {
  if (view.data == nullptr) return " none";
  return absl::StrCat(" ", NameOf(view.dtype), ShapeText(view.shape));
}

std::string Shape(const FrozenLinear& linear) {
  return absl::StrCat(" W[", linear.n(), ",", linear.k(), "]");
}

std::string Shapes(absl::Span<const FrozenLinear* const> group) {
  std::string text;
  for (const FrozenLinear* linear : group) text += Shape(*linear);
  return text;
}

template <typename View>
std::string Shapes(absl::Span<const View> views) {
  std::string text;
  for (const View& view : views) text += Shape(view);
  return text;
}

// Rows and ranks.
std::string Shapes(absl::Span<const Segment> segments) {
  std::string text = " segments";
  for (const Segment& segment : segments) {
    absl::StrAppend(&text, "(", segment.row_begin, "..", segment.row_end);
    for (const LoraPair* pair : segment.adapters) {
      absl::StrAppend(&text, " r", pair == nullptr ? 0 : pair->rank());
    }
    text += ")";
  }
  return text;
}

std::string Shapes(absl::Span<const AttentionSpan> spans) {
  std::string text;
  for (const AttentionSpan& span : spans) {
    absl::StrAppend(&text, " (", span.query_begin, "..", span.query_end, " at ", span.key_begin,
                    "..", span.key_end, ")");
  }
  return text;
}

const char* Name(ProductPath path) { return path == ProductPath::kBatch ? " batch" : " decode"; }

}  // namespace

std::vector<std::string> TracingBackend::TakeTrace() { return std::exchange(trace_, {}); }

template <typename... Parts>
void TracingBackend::Trace(const Parts&... parts) {
  trace_.push_back(absl::StrCat(parts...));
}

void TracingBackend::CopyToDevice(const void* host, TensorView device) {
  Trace("CopyToDevice", Shape(device));
  backend().CopyToDevice(host, std::move(device));
}

void TracingBackend::CopyToHost(ConstTensorView device, void* host) {
  Trace("CopyToHost", Shape(device));
  backend().CopyToHost(std::move(device), host);
}

void TracingBackend::LinearGroupForward(absl::Span<const FrozenLinear* const> group,
                                        absl::Span<const Segment> segments, ConstTensorView x,
                                        TensorView hidden, absl::Span<const TensorView> y,
                                        ProductPath path) {
  Trace("LinearGroupForward", Name(path), Shapes(group), Shapes(segments), Shape(x), Shape(hidden),
        Shapes(y));
  backend().LinearGroupForward(group, segments, std::move(x), std::move(hidden), y, path);
}

void TracingBackend::LinearGroupBackward(absl::Span<const FrozenLinear* const> group,
                                         absl::Span<const Segment> segments, ConstTensorView x,
                                         ConstTensorView hidden,
                                         absl::Span<const ConstTensorView> dy, TensorView dhidden,
                                         TensorView dx) {
  Trace("LinearGroupBackward", Shapes(group), Shapes(segments), Shape(x), Shape(hidden), Shapes(dy),
        Shape(dhidden), Shape(dx));
  backend().LinearGroupBackward(group, segments, std::move(x), std::move(hidden), dy,
                                std::move(dhidden), std::move(dx));
}

void TracingBackend::Embed(const FrozenLinear& table, ConstTensorView ids, TensorView out) {
  Trace("Embed", ShapeText({table.n(), table.k()}), Shape(ids), Shape(out));
  backend().Embed(table, std::move(ids), std::move(out));
}

void TracingBackend::RmsNormForward(ConstTensorView x, ConstTensorView weight, double epsilon,
                                    TensorView y, TensorView rstd) {
  Trace("RmsNormForward", Shape(x), Shape(weight), Shape(y), Shape(rstd));
  backend().RmsNormForward(std::move(x), std::move(weight), epsilon, std::move(y), std::move(rstd));
}

void TracingBackend::RmsNormBackward(ConstTensorView x, ConstTensorView weight,
                                     ConstTensorView rstd, ConstTensorView dy, TensorView dx) {
  Trace("RmsNormBackward", Shape(x), Shape(weight), Shape(rstd), Shape(dy), Shape(dx));
  backend().RmsNormBackward(std::move(x), std::move(weight), std::move(rstd), std::move(dy),
                            std::move(dx));
}

void TracingBackend::AddResidual(ConstTensorView x, ConstTensorView y, TensorView out) {
  Trace("AddResidual", Shape(x), Shape(y), Shape(out));
  backend().AddResidual(std::move(x), std::move(y), std::move(out));
}

void TracingBackend::Round(ConstTensorView x, TensorView y) {
  Trace("Round", Shape(x), Shape(y));
  backend().Round(std::move(x), std::move(y));
}

void TracingBackend::Rope(TensorView x, int64_t heads, ConstTensorView positions,
                          ConstTensorView cosines, ConstTensorView sines, bool inverse) {
  Trace("Rope", inverse ? " inverse" : "", " heads ", heads, Shape(x), Shape(positions),
        Shape(cosines), Shape(sines));
  backend().Rope(std::move(x), heads, std::move(positions), std::move(cosines), std::move(sines),
                 inverse);
}

void TracingBackend::AttentionForward(const AttentionShape& shape,
                                      absl::Span<const AttentionSpan> spans, ConstTensorView q,
                                      ConstTensorView k, ConstTensorView v, TensorView out,
                                      TensorView lse, ProductPath path) {
  Trace("AttentionForward", Name(path), Shapes(spans), Shape(q), Shape(k), Shape(v), Shape(out),
        Shape(lse));
  backend().AttentionForward(shape, spans, std::move(q), std::move(k), std::move(v), std::move(out),
                             std::move(lse), path);
}

void TracingBackend::AttentionBackward(const AttentionShape& shape,
                                       absl::Span<const AttentionSpan> spans, ConstTensorView q,
                                       ConstTensorView k, ConstTensorView v, ConstTensorView out,
                                       ConstTensorView lse, ConstTensorView dout, TensorView dq,
                                       TensorView dk, TensorView dv) {
  Trace("AttentionBackward", Shapes(spans), Shape(q), Shape(k), Shape(v), Shape(out), Shape(lse),
        Shape(dout), Shape(dq), Shape(dk), Shape(dv));
  backend().AttentionBackward(shape, spans, std::move(q), std::move(k), std::move(v),
                              std::move(out), std::move(lse), std::move(dout), std::move(dq),
                              std::move(dk), std::move(dv));
}

void TracingBackend::SwigluForward(ConstTensorView gate, ConstTensorView up, TensorView out) {
  Trace("SwigluForward", Shape(gate), Shape(up), Shape(out));
  backend().SwigluForward(std::move(gate), std::move(up), std::move(out));
}

void TracingBackend::SwigluBackward(ConstTensorView gate, ConstTensorView up, ConstTensorView dout,
                                    TensorView dgate, TensorView dup) {
  Trace("SwigluBackward", Shape(gate), Shape(up), Shape(dout), Shape(dgate), Shape(dup));
  backend().SwigluBackward(std::move(gate), std::move(up), std::move(dout), std::move(dgate),
                           std::move(dup));
}

void TracingBackend::GatherRows(ConstTensorView x, ConstTensorView rows, TensorView out) {
  Trace("GatherRows", Shape(x), Shape(rows), Shape(out));
  backend().GatherRows(std::move(x), std::move(rows), std::move(out));
}

void TracingBackend::ScatterRows(ConstTensorView x, ConstTensorView rows, TensorView out) {
  Trace("ScatterRows", Shape(x), Shape(rows), Shape(out));
  backend().ScatterRows(std::move(x), std::move(rows), std::move(out));
}

void TracingBackend::CrossEntropy(const FrozenLinear& output, ConstTensorView x,
                                  ConstTensorView labels, ConstTensorView weights,
                                  TensorView losses, TensorView dx) {
  Trace("CrossEntropy", Shape(output), Shape(x), Shape(labels), Shape(weights), Shape(losses),
        Shape(dx));
  backend().CrossEntropy(output, std::move(x), std::move(labels), std::move(weights),
                         std::move(losses), std::move(dx));
}

void TracingBackend::Logits(const FrozenLinear& output, ConstTensorView x, TensorView logits,
                            ProductPath path) {
  Trace("Logits", Name(path), Shape(output), Shape(x), Shape(logits));
  backend().Logits(output, std::move(x), std::move(logits), path);
}

void TracingBackend::ArgMax(ConstTensorView x, TensorView places) {
  Trace("ArgMax", Shape(x), Shape(places));
  backend().ArgMax(std::move(x), std::move(places));
}

double TracingBackend::SumOfSquares(ConstTensorView x) {
  Trace("SumOfSquares", Shape(x));
  return backend().SumOfSquares(std::move(x));
}

void TracingBackend::AdamW(const AdamWSettings& settings, ConstTensorView gradient,
                           TensorView parameter, TensorView m, TensorView v) {
  Trace("AdamW", Shape(gradient), Shape(parameter), Shape(m), Shape(v));
  backend().AdamW(settings, std::move(gradient), std::move(parameter), std::move(m), std::move(v));
}

void TracingBackend::Fill(TensorView x, double value) {
  Trace("Fill", Shape(x));
  backend().Fill(std::move(x), value);
}

void TracingBackend::Copy(ConstTensorView from, TensorView to) {
  Trace("Copy", Shape(from), Shape(to));
  backend().Copy(std::move(from), std::move(to));
}

}  // namespace deltaworks::trainer

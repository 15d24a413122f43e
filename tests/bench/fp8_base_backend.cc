#include "tests/bench/fp8_base_backend.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "trainer/backend/fp8.h"
#include "trainer/base/status_macros.h"

namespace deltaworks::trainer {
namespace {

// A tensor of its own.
struct Owned {
  explicit Owned(std::vector<int64_t> shape) : view{nullptr, DType::kF32, std::move(shape)} {
    values.resize(view.elements());
    view.data = values.data();
  }
  explicit Owned(const ConstTensorView& x) : Owned(x.shape) {
    std::copy_n(x.as<const float>(), values.size(), values.begin());
  }
  Owned(const Owned&) = delete;

  std::vector<float> values;
  TensorView view;
};

std::unique_ptr<Owned> RowsInFp8(const ConstTensorView& x) {
  auto rounded = std::make_unique<Owned>(x);
  const int64_t columns = x.dim(1);
  for (int64_t row = 0; row < x.dim(0); ++row) {
    RoundToFp8(columns, 1, rounded->values.data() + row * columns);
  }
  return rounded;
}

std::unique_ptr<Owned> ColumnsInFp8(const ConstTensorView& x) {
  auto rounded = std::make_unique<Owned>(x);
  for (int64_t column = 0; column < x.dim(1); ++column) {
    RoundToFp8(x.dim(0), x.dim(1), rounded->values.data() + column);
  }
  return rounded;
}

void Add(const TensorView& more, const TensorView& to) {
  for (int64_t i = 0; i < to.elements(); ++i) to.as<float>()[i] += more.as<float>()[i];
}

class Fp8Linear final : public FrozenLinear {
 public:
  explicit Fp8Linear(const ConstTensorView& weight)
      : forward_values(RowsInFp8(weight)),
        backward_values(ColumnsInFp8(weight)),
        zeros(weight.shape) {}
  int64_t n() const override { return zeros.view.dim(0); }
  int64_t k() const override { return zeros.view.dim(1); }

  const std::unique_ptr<Owned> forward_values, backward_values;
  const Owned zeros;
  std::unique_ptr<FrozenLinear> forward, backward, zero;
};

using Linears = std::vector<const FrozenLinear*>;
Linears Of(absl::Span<const FrozenLinear* const> group,
           std::unique_ptr<FrozenLinear> Fp8Linear::*which) {
  Linears linears;
  for (const FrozenLinear* linear : group) {
    linears.push_back((static_cast<const Fp8Linear*>(linear)->*which).get());
  }
  return linears;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FrozenLinear>> Fp8BaseBackend::Pack(ConstTensorView weight) {
  auto linear = std::make_unique<Fp8Linear>(weight);
  DW_ASSIGN_OR_RETURN(linear->forward, backend().Pack(linear->forward_values->view));
  DW_ASSIGN_OR_RETURN(linear->backward, backend().Pack(linear->backward_values->view));
  DW_ASSIGN_OR_RETURN(linear->zero, backend().Pack(linear->zeros.view));
  return linear;
}

void Fp8BaseBackend::LinearGroupForward(absl::Span<const FrozenLinear* const> group,
                                        absl::Span<const Segment> segments, ConstTensorView x,
                                        TensorView hidden, absl::Span<const TensorView> y,
                                        ProductPath path) {
  backend().LinearGroupForward(Of(group, &Fp8Linear::forward), {}, RowsInFp8(x)->view, {}, y, path);
  std::vector<std::unique_ptr<Owned>> parts;
  std::vector<TensorView> views;
  for (const TensorView& output : y) {
    parts.push_back(std::make_unique<Owned>(output.shape));
    views.push_back(parts.back()->view);
  }
  backend().LinearGroupForward(Of(group, &Fp8Linear::zero), segments, x, hidden, views, path);
  for (size_t i = 0; i < y.size(); ++i) Add(views[i], y[i]);
}

void Fp8BaseBackend::LinearGroupBackward(absl::Span<const FrozenLinear* const> group,
                                         absl::Span<const Segment> segments, ConstTensorView x,
                                         ConstTensorView hidden,
                                         absl::Span<const ConstTensorView> dy, TensorView dhidden,
                                         TensorView dx) {
  if (dx.data == nullptr) {
    backend().LinearGroupBackward(Of(group, &Fp8Linear::zero), segments, x, hidden, dy, dhidden,
                                  dx);
    return;
  }
  std::vector<std::unique_ptr<Owned>> rounded;
  std::vector<ConstTensorView> views;
  for (const ConstTensorView& gradient : dy) {
    rounded.push_back(RowsInFp8(gradient));
    views.push_back(rounded.back()->view);
  }
  backend().LinearGroupBackward(Of(group, &Fp8Linear::backward), {}, x, {}, views, {}, dx);
  const Owned part(dx.shape);
  backend().LinearGroupBackward(Of(group, &Fp8Linear::zero), segments, x, hidden, dy, dhidden,
                                part.view);
  Add(part.view, dx);
}

}  // namespace deltaworks::trainer

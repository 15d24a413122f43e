#include "trainer/backend/reference/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/backend/arg_max.h"
#include "trainer/backend/fp8.h"
#include "trainer/backend/philox.h"

namespace deltaworks::trainer {
namespace {

class HostBuffer : public DeviceBuffer {
 public:
  explicit HostBuffer(int64_t bytes) : storage_(bytes) {}
  void* data() override { return storage_.data(); }
  int64_t bytes() const override { return static_cast<int64_t>(storage_.size()); }

 private:
  std::vector<char> storage_;
};

template <typename Real>
class PlainLinear : public FrozenLinear {
 public:
  explicit PlainLinear(ConstTensorView weight) : weight_(std::move(weight)) {}
  int64_t n() const override { return weight_.dim(0); }
  int64_t k() const override { return weight_.dim(1); }
  // [N,K] for y = x W^T, and for dx = dy W.
  virtual const Real* forward() const { return weight_.as<const Real>(); }
  virtual const Real* backward() const { return weight_.as<const Real>(); }

 private:
  const ConstTensorView weight_;
};

template <typename Real>
std::vector<Real> RowsInFp8(const ConstTensorView& x) {
  std::vector<Real> rounded(x.as<const Real>(), x.as<const Real>() + x.elements());
  for (int64_t row = 0; row < x.dim(0); ++row) {
    RoundToFp8<Real>(x.dim(1), 1, rounded.data() + row * x.dim(1));
  }
  return rounded;
}

template <typename Real>
class Fp8Linear final : public PlainLinear<Real> {
 public:
  explicit Fp8Linear(const ConstTensorView& weight)
      : PlainLinear<Real>(weight),
        forward_(RowsInFp8<Real>(weight)),
        backward_(weight.as<const Real>(), weight.as<const Real>() + weight.elements()) {
    for (int64_t k = 0; k < weight.dim(1); ++k) {
      RoundToFp8<Real>(weight.dim(0), weight.dim(1), backward_.data() + k);
    }
  }
  const Real* forward() const override { return forward_.data(); }
  const Real* backward() const override { return backward_.data(); }

 private:
  std::vector<Real> forward_, backward_;
};

template <typename Real>
class ReferenceBackend : public Backend {
 public:
  explicit ReferenceBackend(bool fp8_base) : fp8_base_(fp8_base) {}

  DType compute_type() const override { return DTypeOf<Real>::value; }
  DType wide_type() const override { return DTypeOf<Real>::value; }
  std::string numerics_class() const override {
    return absl::StrCat("reference/", NameOf(compute_type()), fp8_base_ ? "/fp8" : "");
  }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes) override {
    return std::make_unique<HostBuffer>(bytes);
  }
  int64_t ScratchBytes(const PassShape&) const override { return 0; }
  absl::Status ReserveScratch(const PassShape&) override { return absl::OkStatus(); }
  void CopyToDevice(const void* host, TensorView device) override {
    std::memcpy(device.data, host, device.bytes());
  }
  void CopyToHost(ConstTensorView device, void* host) override {
    std::memcpy(host, device.data, device.bytes());
  }
  absl::StatusOr<std::unique_ptr<FrozenLinear>> Pack(ConstTensorView weight) override {
    if (!fp8_base_) return PackTable(std::move(weight));
    CHECK(weight.dtype == compute_type()) << NameOf(weight.dtype);
    return std::make_unique<Fp8Linear<Real>>(weight);
  }
  absl::StatusOr<std::unique_ptr<FrozenLinear>> PackTable(ConstTensorView weight) override {
    CHECK(weight.dtype == compute_type()) << NameOf(weight.dtype);
    return std::make_unique<PlainLinear<Real>>(std::move(weight));
  }

  void LinearGroupForward(absl::Span<const FrozenLinear* const> group,
                          absl::Span<const Segment> segments, ConstTensorView x, TensorView hidden,
                          absl::Span<const TensorView> y, ProductPath) override {
    const int64_t rows = x.dim(0), k = x.dim(1), width = hidden.shape.empty() ? 0 : hidden.dim(1);
    const Real* input = x.as<const Real>();
    const std::vector<Real> of_base = OfBase(x);
    for (size_t i = 0; i < group.size(); ++i) {
      const Real* weight = LinearOf(*group[i]).forward();
      const int64_t n = group[i]->n();
      Real* output = y[i].as<Real>();
      for (int64_t t = 0; t < rows; ++t) {
        for (int64_t j = 0; j < n; ++j) {
          output[t * n + j] = Dot(of_base.data() + t * k, weight + j * k, k);
        }
      }
    }
    for (const Segment& segment : segments) {
      for (int64_t t = segment.row_begin; t < segment.row_end; ++t) {
        const std::vector<Real> mask = Mask(segment, t, k);
        int64_t column = 0;
        for (size_t i = 0; i < group.size(); ++i) {
          const LoraPair* pair = segment.adapters[i];
          if (pair == nullptr) continue;
          const Real* a = pair->a.as<const Real>();
          const Real* b = pair->b.as<const Real>();
          Real* s = hidden.as<Real>() + t * width + column;
          const int64_t rank = pair->rank(), n = group[i]->n();
          for (int64_t r = 0; r < rank; ++r) {
            Real sum = 0;
            for (int64_t f = 0; f < k; ++f) sum += mask[f] * input[t * k + f] * a[r * k + f];
            s[r] = Real{pair->scale} * sum;
          }
          Real* output = y[i].as<Real>() + t * n;
          for (int64_t j = 0; j < n; ++j) output[j] += Dot(s, b + j * rank, rank);
          column += rank;
        }
      }
    }
  }

  void LinearGroupBackward(absl::Span<const FrozenLinear* const> group,
                           absl::Span<const Segment> segments, ConstTensorView x,
                           ConstTensorView hidden, absl::Span<const ConstTensorView> dy,
                           TensorView dhidden, TensorView dx) override {
    const int64_t rows = x.dim(0), k = x.dim(1), width = hidden.shape.empty() ? 0 : hidden.dim(1);
    const Real* input = x.as<const Real>();
    if (dx.data != nullptr) {
      Fill(dx, 0);
      for (size_t i = 0; i < group.size(); ++i) {
        const Real* weight = LinearOf(*group[i]).backward();
        const std::vector<Real> of_base = OfBase(dy[i]);
        const int64_t n = group[i]->n();
        for (int64_t t = 0; t < rows; ++t) {
          for (int64_t j = 0; j < n; ++j) {
            Axpy(of_base[t * n + j], weight + j * k, dx.as<Real>() + t * k, k);
          }
        }
      }
    }
    for (const Segment& segment : segments) {
      for (int64_t t = segment.row_begin; t < segment.row_end; ++t) {
        const std::vector<Real> mask = Mask(segment, t, k);
        int64_t column = 0;
        for (size_t i = 0; i < group.size(); ++i) {
          const LoraPair* pair = segment.adapters[i];
          if (pair == nullptr) continue;
          const int64_t rank = pair->rank(), n = group[i]->n();
          const Real scale = pair->scale;
          const Real* a = pair->a.as<const Real>();
          const Real* b = pair->b.as<const Real>();
          const Real* s = hidden.as<const Real>() + t * width + column;
          const Real* gradient = dy[i].as<const Real>() + t * n;
          Real* ds = dhidden.as<Real>() + t * width + column;
          std::fill(ds, ds + rank, Real{0});
          for (int64_t j = 0; j < n; ++j) {
            Axpy(scale * gradient[j], b + j * rank, ds, rank);
            Axpy(gradient[j], s, pair->db.template as<Real>() + j * rank, rank);
          }
          for (int64_t r = 0; r < rank; ++r) {
            for (int64_t f = 0; f < k; ++f) {
              pair->da.template as<Real>()[r * k + f] += ds[r] * mask[f] * input[t * k + f];
              if (dx.data != nullptr) dx.as<Real>()[t * k + f] += ds[r] * a[r * k + f] * mask[f];
            }
          }
          column += rank;
        }
      }
    }
  }

  void Embed(const FrozenLinear& table, ConstTensorView ids, TensorView out) override {
    const int64_t width = table.k();
    for (int64_t t = 0; t < ids.dim(0); ++t) {
      const int32_t id = ids.as<const int32_t>()[t];
      CHECK(id >= 0 && id < table.n()) << id;
      std::copy_n(Weight(table) + id * width, width, out.as<Real>() + t * width);
    }
  }

  void RmsNormForward(ConstTensorView x, ConstTensorView weight, double epsilon, TensorView y,
                      TensorView rstd) override {
    const int64_t width = x.dim(1);
    for (int64_t t = 0; t < x.dim(0); ++t) {
      const Real* row = x.as<const Real>() + t * width;
      const Real scale = 1 / std::sqrt(Dot(row, row, width) / width + static_cast<Real>(epsilon));
      rstd.as<Real>()[t] = scale;
      for (int64_t f = 0; f < width; ++f) {
        y.as<Real>()[t * width + f] = row[f] * scale * weight.as<const float>()[f];
      }
    }
  }

  // With g = dy * weight and n = x * rstd:  dx += rstd * (g - n * mean(g * n)).
  void RmsNormBackward(ConstTensorView x, ConstTensorView weight, ConstTensorView rstd,
                       ConstTensorView dy, TensorView dx) override {
    const int64_t width = x.dim(1);
    for (int64_t t = 0; t < x.dim(0); ++t) {
      const Real* row = x.as<const Real>() + t * width;
      const Real* gradient = dy.as<const Real>() + t * width;
      const Real scale = rstd.as<const Real>()[t];
      Real mean = 0;
      for (int64_t f = 0; f < width; ++f) {
        mean += gradient[f] * weight.as<const float>()[f] * row[f] * scale;
      }
      mean /= width;
      for (int64_t f = 0; f < width; ++f) {
        const Real g = gradient[f] * weight.as<const float>()[f];
        dx.as<Real>()[t * width + f] += scale * (g - row[f] * scale * mean);
      }
    }
  }

  void AddResidual(ConstTensorView x, ConstTensorView y, TensorView out) override {
    for (int64_t i = 0; i < x.elements(); ++i) {
      out.as<Real>()[i] = x.as<const Real>()[i] + y.as<const Real>()[i];
    }
  }

  void Round(ConstTensorView x, TensorView y) override {
    std::copy_n(x.as<const Real>(), x.elements(), y.as<Real>());
  }

  void Rope(TensorView x, int64_t heads, ConstTensorView positions, ConstTensorView cosines,
            ConstTensorView sines, bool inverse) override {
    const int64_t half = cosines.dim(1), width = x.dim(1);
    for (int64_t t = 0; t < x.dim(0); ++t) {
      const int64_t position = positions.as<const int32_t>()[t];
      CHECK(position >= 0 && position < cosines.dim(0)) << position;
      const Real* c = cosines.as<const Real>() + position * half;
      const Real* s = sines.as<const Real>() + position * half;
      for (int64_t head = 0; head < heads; ++head) {
        Real* first = x.as<Real>() + t * width + head * 2 * half;
        Real* second = first + half;
        for (int64_t f = 0; f < half; ++f) {
          const Real u = first[f], v = second[f], sine = inverse ? -s[f] : s[f];
          first[f] = u * c[f] - v * sine;
          second[f] = v * c[f] + u * sine;
        }
      }
    }
  }

  void AttentionForward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                        ConstTensorView q, ConstTensorView k, ConstTensorView v, TensorView out,
                        TensorView lse, ProductPath) override {
    const int64_t dim = shape.head_dim, group = shape.query_heads / shape.kv_heads;
    for (const AttentionSpan& span : spans) {
      for (int64_t t = span.query_begin; t < span.query_end; ++t) {
        for (int64_t head = 0; head < shape.query_heads; ++head) {
          const int64_t keys = KeyEnd(shape, span, t) - span.key_begin;
          Real log_sum = 0;
          const std::vector<Real> p = Probabilities(shape, span, q, k, t, head, keys, &log_sum);
          if (lse.data != nullptr) lse.as<Real>()[t * shape.query_heads + head] = log_sum;
          Real* row = out.as<Real>() + (t * shape.query_heads + head) * dim;
          std::fill(row, row + dim, Real{0});
          for (int64_t j = 0; j < keys; ++j) {
            Axpy(p[j], Row(v, shape.kv_heads, span.KeyRow(j), head / group, dim), row, dim);
          }
        }
      }
    }
  }

  // p = softmax row;  dp_j = dout . v_j;  ds_j = p_j (dp_j - sum_i p_i dp_i).
  void AttentionBackward(const AttentionShape& shape, absl::Span<const AttentionSpan> spans,
                         ConstTensorView q, ConstTensorView k, ConstTensorView v, ConstTensorView,
                         ConstTensorView, ConstTensorView dout, TensorView dq, TensorView dk,
                         TensorView dv) override {
    const int64_t dim = shape.head_dim, group = shape.query_heads / shape.kv_heads;
    for (const AttentionSpan& span : spans) {
      for (TensorView* gradient : {&dk, &dv}) {
        Real* begin = gradient->as<Real>();
        std::fill(begin + span.key_begin * shape.kv_heads * dim,
                  begin + span.key_end * shape.kv_heads * dim, Real{0});
      }
      for (int64_t t = span.query_begin; t < span.query_end; ++t) {
        for (int64_t head = 0; head < shape.query_heads; ++head) {
          const int64_t keys = KeyEnd(shape, span, t) - span.key_begin;
          Real log_sum = 0;
          const std::vector<Real> p = Probabilities(shape, span, q, k, t, head, keys, &log_sum);
          const Real* query = Row(q, shape.query_heads, t, head, dim);
          const Real* gradient = Row(dout, shape.query_heads, t, head, dim);
          std::vector<Real> dp(keys);
          Real mean = 0;
          for (int64_t j = 0; j < keys; ++j) {
            dp[j] =
                Dot(gradient, Row(v, shape.kv_heads, span.key_begin + j, head / group, dim), dim);
            mean += p[j] * dp[j];
          }
          Real* query_gradient = dq.as<Real>() + (t * shape.query_heads + head) * dim;
          std::fill(query_gradient, query_gradient + dim, Real{0});
          for (int64_t j = 0; j < keys; ++j) {
            const int64_t at = ((span.key_begin + j) * shape.kv_heads + head / group) * dim;
            const Real ds = p[j] * (dp[j] - mean) * Real{shape.scale};
            Axpy(ds, k.as<const Real>() + at, query_gradient, dim);
            Axpy(ds, query, dk.as<Real>() + at, dim);
            Axpy(p[j], gradient, dv.as<Real>() + at, dim);
          }
        }
      }
    }
  }

  void SwigluForward(ConstTensorView gate, ConstTensorView up, TensorView out) override {
    for (int64_t i = 0; i < out.elements(); ++i) {
      const Real g = gate.as<const Real>()[i];
      out.as<Real>()[i] = g / (1 + std::exp(-g)) * up.as<const Real>()[i];
    }
  }

  void SwigluBackward(ConstTensorView gate, ConstTensorView up, ConstTensorView dout,
                      TensorView dgate, TensorView dup) override {
    for (int64_t i = 0; i < dout.elements(); ++i) {
      const Real g = gate.as<const Real>()[i], d = dout.as<const Real>()[i];
      const Real sigmoid = 1 / (1 + std::exp(-g));
      dup.as<Real>()[i] = d * g * sigmoid;
      dgate.as<Real>()[i] = d * up.as<const Real>()[i] * sigmoid * (1 + g * (1 - sigmoid));
    }
  }

  void GatherRows(ConstTensorView x, ConstTensorView rows, TensorView out) override {
    const int64_t width = x.dim(1);
    for (int64_t i = 0; i < rows.dim(0); ++i) {
      std::copy_n(x.as<const Real>() + rows.as<const int32_t>()[i] * width, width,
                  out.as<Real>() + i * width);
    }
  }

  void ScatterRows(ConstTensorView x, ConstTensorView rows, TensorView out) override {
    const int64_t width = x.dim(1);
    for (int64_t i = 0; i < rows.dim(0); ++i) {
      std::copy_n(x.as<const Real>() + i * width, width,
                  out.as<Real>() + rows.as<const int32_t>()[i] * width);
    }
  }

  void CrossEntropy(const FrozenLinear& output, ConstTensorView x, ConstTensorView labels,
                    ConstTensorView weights, TensorView losses, TensorView dx) override {
    const int64_t width = x.dim(1), vocab = output.n();
    if (dx.data != nullptr) Fill(dx, 0);
    std::vector<Real> p(vocab);
    for (int64_t i = 0; i < x.dim(0); ++i) {
      const Real* row = x.as<const Real>() + i * width;
      const int32_t label = labels.as<const int32_t>()[i];
      CHECK(label >= 0 && label < vocab) << label;
      for (int64_t v = 0; v < vocab; ++v) p[v] = Dot(row, Weight(output) + v * width, width);
      const Real logit = p[label];
      const Real log_sum = SoftmaxInPlace(&p);
      losses.as<Real>()[i] = log_sum - logit;
      if (dx.data == nullptr) continue;
      for (int64_t v = 0; v < vocab; ++v) {
        const Real gradient = (p[v] - (v == label ? 1 : 0)) * weights.as<const Real>()[i];
        Axpy(gradient, Weight(output) + v * width, dx.as<Real>() + i * width, width);
      }
    }
  }

  void Logits(const FrozenLinear& output, ConstTensorView x, TensorView logits,
              ProductPath) override {
    const int64_t width = x.dim(1), vocab = output.n();
    for (int64_t i = 0; i < x.dim(0); ++i) {
      for (int64_t v = 0; v < vocab; ++v) {
        logits.as<Real>()[i * vocab + v] =
            Dot(x.as<const Real>() + i * width, Weight(output) + v * width, width);
      }
    }
  }

  void ArgMax(ConstTensorView x, TensorView places) override {
    for (int64_t i = 0; i < x.dim(0); ++i) {
      places.as<int32_t>()[i] = trainer::ArgMax<Real>(
          absl::MakeConstSpan(x.as<const Real>() + i * x.dim(1), static_cast<size_t>(x.dim(1))));
    }
  }

  double SumOfSquares(ConstTensorView x) override {
    double sum = 0;
    for (int64_t i = 0; i < x.elements(); ++i) {
      const double value = x.as<const Real>()[i];
      sum += value * value;
    }
    return sum;
  }

  void AdamW(const AdamWSettings& settings, ConstTensorView gradient, TensorView parameter,
             TensorView m, TensorView v) override {
    const double correction1 = 1 - std::pow(settings.beta1, settings.step);
    const double correction2 = std::sqrt(1 - std::pow(settings.beta2, settings.step));
    for (int64_t i = 0; i < parameter.elements(); ++i) {
      Real& p = parameter.as<Real>()[i];
      Real& m_i = m.as<Real>()[i];
      Real& v_i = v.as<Real>()[i];
      const Real g = gradient.as<const Real>()[i] * static_cast<Real>(settings.gradient_scale);
      p *= static_cast<Real>(1 - settings.learning_rate * settings.weight_decay);
      m_i += static_cast<Real>(1 - settings.beta1) * (g - m_i);
      v_i = static_cast<Real>(settings.beta2) * v_i + static_cast<Real>(1 - settings.beta2) * g * g;
      const Real denominator =
          std::sqrt(v_i) / static_cast<Real>(correction2) + static_cast<Real>(settings.epsilon);
      p -= static_cast<Real>(settings.learning_rate / correction1) * (m_i / denominator);
    }
  }

  void Fill(TensorView x, double value) override {
    std::fill_n(x.as<Real>(), x.elements(), static_cast<Real>(value));
  }

  void Copy(ConstTensorView from, TensorView to) override {
    CHECK(from.dtype == to.dtype && from.elements() == to.elements());
    std::memmove(to.data, from.data, to.bytes());
  }

  absl::Status Synchronize() override { return absl::OkStatus(); }

 private:
  static const PlainLinear<Real>& LinearOf(const FrozenLinear& linear) {
    return static_cast<const PlainLinear<Real>&>(linear);
  }
  static const Real* Weight(const FrozenLinear& table) { return LinearOf(table).forward(); }
  // The rows that are multiplied by W.
  std::vector<Real> OfBase(const ConstTensorView& x) const {
    if (fp8_base_) return RowsInFp8<Real>(x);
    return {x.as<const Real>(), x.as<const Real>() + x.elements()};
  }
  static Real Dot(const Real* a, const Real* b, int64_t size) {
    Real sum = 0;
    for (int64_t i = 0; i < size; ++i) sum += a[i] * b[i];
    return sum;
  }
  static void Axpy(Real scale, const Real* x, Real* y, int64_t size) {
    for (int64_t i = 0; i < size; ++i) y[i] += scale * x[i];
  }
  static const Real* Row(const ConstTensorView& x, int64_t heads, int64_t t, int64_t head,
                         int64_t dim) {
    return x.as<const Real>() + (t * heads + head) * dim;
  }

  // 1 / (1 - p) where the feature is kept, 0 where it is dropped.
  static std::vector<Real> Mask(const Segment& segment, int64_t row, int64_t width) {
    const DropoutKey& key = segment.dropout;
    std::vector<Real> mask(width, Real{1});
    if (key.p == 0) return mask;
    const uint32_t threshold = DropoutThreshold(key.p);
    const uint32_t token = key.token + static_cast<uint32_t>(row - segment.row_begin);
    for (int64_t f = 0; f < width; ++f) {
      const PhiloxWords words =
          DropoutWords(key.seed, key.step, key.site, token, static_cast<uint32_t>(f / 4));
      mask[f] = words[f % 4] >= threshold ? Real{1.0f / (1.0f - key.p)} : Real{0};
    }
    return mask;
  }

  static int64_t KeyEnd(const AttentionShape& shape, const AttentionSpan& span, int64_t query) {
    return shape.causal ? span.key_end - (span.query_end - 1 - query) : span.key_end;
  }

  static std::vector<Real> Probabilities(const AttentionShape& shape, const AttentionSpan& span,
                                         const ConstTensorView& q, const ConstTensorView& k,
                                         int64_t t, int64_t head, int64_t keys, Real* log_sum) {
    const int64_t dim = shape.head_dim, group = shape.query_heads / shape.kv_heads;
    std::vector<Real> p(keys);
    for (int64_t j = 0; j < keys; ++j) {
      p[j] =
          Real{shape.scale} * Dot(Row(q, shape.query_heads, t, head, dim),
                                  Row(k, shape.kv_heads, span.KeyRow(j), head / group, dim), dim);
    }
    *log_sum = SoftmaxInPlace(&p);
    return p;
  }

  // Returns log sum exp.
  static Real SoftmaxInPlace(std::vector<Real>* x) {
    const Real max = *std::max_element(x->begin(), x->end());
    Real sum = 0;
    for (Real& value : *x) {
      value = std::exp(value - max);
      sum += value;
    }
    for (Real& value : *x) value /= sum;
    return max + std::log(sum);
  }

  const bool fp8_base_;
};

std::unique_ptr<Backend> NewBackend(DType type, bool fp8_base) {
  if (type == DType::kF64) return std::make_unique<ReferenceBackend<double>>(fp8_base);
  CHECK(type == DType::kF32) << NameOf(type);
  return std::make_unique<ReferenceBackend<float>>(fp8_base);
}

}  // namespace

std::unique_ptr<Backend> NewReferenceBackend(DType type) {
  return NewBackend(type, /*fp8_base=*/false);
}
std::unique_ptr<Backend> NewFp8ReferenceBackend(DType type) {
  return NewBackend(type, /*fp8_base=*/true);
}

}  // namespace deltaworks::trainer

// Finite differences in f64: each backward operation is the derivative of its forward operation.
// With step h = 1e-5 the central difference of a smooth function of order 1 is off by about
// h^2 + 2^-52 / h = 1e-10; 1e-7 relative leaves room for third derivatives of order 100.

#include "trainer/backend/reference/reference_backend.h"

#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

using Tensor = std::vector<double>;

TensorView View(Tensor& values, std::vector<int64_t> shape) {
  return TensorView{values.data(), DType::kF64, std::move(shape)};
}

class GradientTest : public ::testing::Test {
 protected:
  Tensor Random(int64_t size) {
    std::normal_distribution<double> normal;
    Tensor values(size);
    for (double& value : values) value = normal(random_);
    return values;
  }

  // loss() is linear in the operation's outputs; gradient is d loss / d values.
  void ExpectGradient(Tensor& values, const Tensor& gradient, const std::function<double()>& loss) {
    ASSERT_EQ(values.size(), gradient.size());
    const double h = 1e-5;
    for (size_t i = 0; i < values.size(); ++i) {
      const double before = values[i];
      values[i] = before + h;
      const double up = loss();
      values[i] = before - h;
      const double down = loss();
      values[i] = before;
      const double want = (up - down) / (2 * h);
      EXPECT_NEAR(gradient[i], want, 1e-7 * std::max(1.0, std::abs(want))) << "element " << i;
    }
  }

  static double Dot(const Tensor& a, const Tensor& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }

  std::mt19937_64 random_{11};
  std::unique_ptr<Backend> backend_ = NewReferenceBackend(DType::kF64);
};

// Two linears reading one x; the first segment adapts both, with dropout, the second only one.
TEST_F(GradientTest, LinearGroup) {
  const int64_t rows = 5, k = 6, n0 = 4, n1 = 3, r = 2, width = 2 * r;
  Tensor x = Random(rows * k), w0 = Random(n0 * k), w1 = Random(n1 * k);
  Tensor a[3] = {Random(r * k), Random(r * k), Random(r * k)};
  Tensor b[3] = {Random(n0 * r), Random(n1 * r), Random(n1 * r)};
  Tensor da[3], db[3];
  LoraPair pairs[3];
  for (int i = 0; i < 3; ++i) {
    const int64_t n = i == 0 ? n0 : n1;
    da[i].assign(r * k, 0);
    db[i].assign(n * r, 0);
    pairs[i] = LoraPair{View(a[i], {r, k}), View(b[i], {n, r}), 0.5f + i, View(da[i], {r, k}),
                        View(db[i], {n, r})};
  }
  const std::vector<Segment> segments = {
      {0, 3, {&pairs[0], &pairs[1]}, {.p = 0.4f, .seed = 9, .step = 2, .site = 3, .token = 1}},
      {3, 4, {nullptr, &pairs[2]}, {}}};
  const auto linear0 = *backend_->Pack(View(w0, {n0, k}));
  const auto linear1 = *backend_->Pack(View(w1, {n1, k}));
  const FrozenLinear* group[] = {linear0.get(), linear1.get()};
  Tensor y0(rows * n0), y1(rows * n1), hidden(rows * width);
  const Tensor weight0 = Random(rows * n0), weight1 = Random(rows * n1);
  const auto loss = [&] {
    const TensorView y[] = {View(y0, {rows, n0}), View(y1, {rows, n1})};
    backend_->LinearGroupForward(group, segments, View(x, {rows, k}), View(hidden, {rows, width}),
                                 y, ProductPath::kBatch);
    return Dot(y0, weight0) + Dot(y1, weight1);
  };
  loss();
  Tensor dy0 = weight0, dy1 = weight1, dhidden(rows * width), dx(rows * k);
  const ConstTensorView dy[] = {View(dy0, {rows, n0}), View(dy1, {rows, n1})};
  backend_->LinearGroupBackward(group, segments, View(x, {rows, k}), View(hidden, {rows, width}),
                                dy, View(dhidden, {rows, width}), View(dx, {rows, k}));
  ExpectGradient(x, dx, loss);
  for (int i = 0; i < 3; ++i) {
    ExpectGradient(a[i], da[i], loss);
    ExpectGradient(b[i], db[i], loss);
  }
}

TEST_F(GradientTest, RmsNorm) {
  const int64_t rows = 3, width = 5;
  Tensor x = Random(rows * width), y(rows * width), rstd(rows), dx(rows * width, 0.0);
  const std::vector<float> weight = {0.5f, -1.0f, 2.0f, 1.5f, 0.25f};
  const ConstTensorView weight_view(weight.data(), DType::kF32, {width});
  Tensor dy = Random(rows * width);
  const auto loss = [&] {
    backend_->RmsNormForward(View(x, {rows, width}), weight_view, 1e-5, View(y, {rows, width}),
                             View(rstd, {rows}));
    return Dot(y, dy);
  };
  loss();
  backend_->RmsNormBackward(View(x, {rows, width}), weight_view, View(rstd, {rows}),
                            View(dy, {rows, width}), View(dx, {rows, width}));
  ExpectGradient(x, dx, loss);
}

// y = x + norm(x): the residual's gradient is there when the norm's is added.
TEST_F(GradientTest, RmsNormOnAResidualBranch) {
  const int64_t rows = 3, width = 5;
  const std::vector<int64_t> shape = {rows, width};
  Tensor x = Random(rows * width), normed(rows * width), y(rows * width), rstd(rows);
  const std::vector<float> weight = {0.5f, -1.0f, 2.0f, 1.5f, 0.25f};
  const ConstTensorView weight_view(weight.data(), DType::kF32, {width});
  Tensor dy = Random(rows * width);
  const auto loss = [&] {
    backend_->RmsNormForward(View(x, shape), weight_view, 1e-5, View(normed, shape),
                             View(rstd, {rows}));
    backend_->AddResidual(View(x, shape), View(normed, shape), View(y, shape));
    return Dot(y, dy);
  };
  loss();
  Tensor dx = dy;
  backend_->RmsNormBackward(View(x, shape), weight_view, View(rstd, {rows}), View(dy, shape),
                            View(dx, shape));
  ExpectGradient(x, dx, loss);
}

TEST_F(GradientTest, ScatterRowsIsTheTransposeOfGatherRows) {
  Tensor x = Random(5 * 3), gathered(2 * 3), dx(5 * 3);
  Tensor dout = Random(2 * 3);
  const int32_t rows[] = {4, 1};
  const ConstTensorView row_view(rows, DType::kI32, {2});
  backend_->ScatterRows(View(dout, {2, 3}), row_view, View(dx, {5, 3}));
  ExpectGradient(x, dx, [&] {
    backend_->GatherRows(View(x, {5, 3}), row_view, View(gathered, {2, 3}));
    return Dot(gathered, dout);
  });
  // The others are left.
  Tensor kept(5 * 3, 7.0);
  backend_->ScatterRows(View(dout, {2, 3}), row_view, View(kept, {5, 3}));
  for (const int row : {0, 2, 3}) EXPECT_EQ(kept[row * 3 + 1], 7.0);
  EXPECT_EQ(kept[4 * 3 + 1], dout[1]);
}

TEST_F(GradientTest, Swiglu) {
  Tensor gate = Random(12), up = Random(12), out(12), dgate(12), dup(12);
  Tensor dout = Random(12);
  const auto loss = [&] {
    backend_->SwigluForward(View(gate, {3, 4}), View(up, {3, 4}), View(out, {3, 4}));
    return Dot(out, dout);
  };
  backend_->SwigluBackward(View(gate, {3, 4}), View(up, {3, 4}), View(dout, {3, 4}),
                           View(dgate, {3, 4}), View(dup, {3, 4}));
  ExpectGradient(gate, dgate, loss);
  ExpectGradient(up, dup, loss);
}

TEST_F(GradientTest, RopeInverseIsItsTranspose) {
  const int64_t rows = 3, heads = 2, half = 2;
  Tensor x = Random(rows * heads * 2 * half), angles = Random(4 * half), cosines, sines;
  for (const double angle : angles) {
    cosines.push_back(std::cos(angle));
    sines.push_back(std::sin(angle));
  }
  const int32_t positions[] = {0, 3, 1};
  const ConstTensorView position_view(positions, DType::kI32, {rows});
  const Tensor dy = Random(x.size());
  const auto rotate = [&](Tensor values, bool inverse) {
    backend_->Rope(View(values, {rows, heads * 2 * half}), heads, position_view,
                   View(cosines, {4, half}), View(sines, {4, half}), inverse);
    return values;
  };
  ExpectGradient(x, rotate(dy, true), [&] { return Dot(rotate(x, false), dy); });
}

TEST_F(GradientTest, AttentionOfTwoDocumentsWithGroupedHeads) {
  const int64_t rows = 7, dim = 3;
  const AttentionShape shape{.query_heads = 4, .kv_heads = 2, .head_dim = dim, .scale = 0.6f};
  const std::vector<AttentionSpan> spans = {{0, 3, 0, 3}, {3, 7, 3, 7}};
  Tensor q = Random(rows * 4 * dim), k = Random(rows * 2 * dim), v = Random(rows * 2 * dim);
  Tensor out(q.size()), lse(rows * 4), dq(q.size()), dk(k.size()), dv(v.size());
  Tensor dout = Random(q.size());
  const std::vector<int64_t> wide = {rows, 4 * dim}, narrow = {rows, 2 * dim};
  const auto loss = [&] {
    backend_->AttentionForward(shape, spans, View(q, wide), View(k, narrow), View(v, narrow),
                               View(out, wide), View(lse, {rows, 4}), ProductPath::kBatch);
    return Dot(out, dout);
  };
  loss();
  backend_->AttentionBackward(shape, spans, View(q, wide), View(k, narrow), View(v, narrow),
                              View(out, wide), View(lse, {rows, 4}), View(dout, wide),
                              View(dq, wide), View(dk, narrow), View(dv, narrow));
  ExpectGradient(q, dq, loss);
  ExpectGradient(k, dk, loss);
  ExpectGradient(v, dv, loss);
}

// Fewer queries than keys, with and without the causal mask, and a row that no span has.
TEST_F(GradientTest, AttentionOfTheLastQueries) {
  const int64_t dim = 3;
  const std::vector<AttentionSpan> spans = {{0, 2, 0, 5}, {3, 4, 5, 8}};
  for (const bool causal : {true, false}) {
    SCOPED_TRACE(causal);
    const AttentionShape shape{2, 2, dim, /*scale=*/0.6f, causal};
    const std::vector<int64_t> of_queries = {4, 2 * dim}, of_keys = {8, 2 * dim};
    Tensor q = Random(4 * 2 * dim), k = Random(8 * 2 * dim), v = Random(8 * 2 * dim);
    Tensor out(q.size()), lse(4 * 2), dq(q.size()), dk(k.size()), dv(v.size());
    Tensor dout = Random(q.size());
    const auto loss = [&] {
      backend_->AttentionForward(shape, spans, View(q, of_queries), View(k, of_keys),
                                 View(v, of_keys), View(out, of_queries), View(lse, {4, 2}),
                                 ProductPath::kBatch);
      return Dot(out, dout);
    };
    loss();
    backend_->AttentionBackward(shape, spans, View(q, of_queries), View(k, of_keys),
                                View(v, of_keys), View(out, of_queries), View(lse, {4, 2}),
                                View(dout, of_queries), View(dq, of_queries), View(dk, of_keys),
                                View(dv, of_keys));
    ExpectGradient(q, dq, loss);
    ExpectGradient(k, dk, loss);
    ExpectGradient(v, dv, loss);
  }
}

TEST_F(GradientTest, AttentionWithACacheEqualsTheLastRowsWithoutOne) {
  const int64_t dim = 4, keys = 5;
  const AttentionShape shape{.query_heads = 2, .kv_heads = 1, .head_dim = dim, .scale = 0.5f};
  Tensor q = Random(keys * 2 * dim), k = Random(keys * dim), v = Random(keys * dim);
  Tensor whole(q.size()), last(2 * 2 * dim);
  backend_->AttentionForward(shape, {{0, keys, 0, keys}}, View(q, {keys, 2 * dim}),
                             View(k, {keys, dim}), View(v, {keys, dim}),
                             View(whole, {keys, 2 * dim}), TensorView(), ProductPath::kBatch);
  Tensor tail(q.begin() + 3 * 2 * dim, q.end());
  backend_->AttentionForward(shape, {{0, 2, 0, keys}}, View(tail, {2, 2 * dim}),
                             View(k, {keys, dim}), View(v, {keys, dim}), View(last, {2, 2 * dim}),
                             TensorView(), ProductPath::kBatch);
  EXPECT_EQ(last, Tensor(whole.begin() + 3 * 2 * dim, whole.end()));
}

TEST_F(GradientTest, CrossEntropy) {
  const int64_t rows = 3, width = 4, vocab = 6;
  Tensor x = Random(rows * width), w = Random(vocab * width), losses(rows), dx(rows * width);
  Tensor weights = {0.5, 2.0, 0.25};
  const int32_t labels[] = {5, 0, 2};
  const auto output = *backend_->PackTable(View(w, {vocab, width}));
  const auto loss = [&] {
    backend_->CrossEntropy(*output, View(x, {rows, width}),
                           ConstTensorView(labels, DType::kI32, {rows}), View(weights, {rows}),
                           View(losses, {rows}), View(dx, {rows, width}));
    return Dot(losses, weights);
  };
  loss();
  const Tensor gradient = dx;
  ExpectGradient(x, gradient, loss);
}

// torch.optim.AdamW, two steps from parameter 1, gradients 0.5 and -0.25, lr 0.1, decay 0.01:
// computed by hand from its documented algorithm.
TEST_F(GradientTest, AdamWFollowsTorch) {
  Tensor p = {1}, m = {0}, v = {0}, g = {0.5};
  AdamWSettings settings{.learning_rate = 0.1, .weight_decay = 0.01, .step = 1};
  backend_->AdamW(settings, View(g, {1}), View(p, {1}), View(m, {1}), View(v, {1}));
  EXPECT_NEAR(p[0], 1 * (1 - 0.001) - 0.1 * 0.5 / (0.5 + 1e-8), 1e-12);
  g[0] = -0.25;
  settings.step = 2;
  const double before = p[0];
  backend_->AdamW(settings, View(g, {1}), View(p, {1}), View(m, {1}), View(v, {1}));
  const double m2 = 0.9 * 0.05 + 0.1 * -0.25, v2 = 0.999 * 0.00025 + 0.001 * 0.0625;
  const double m_hat = m2 / (1 - 0.81), v_hat = v2 / (1 - 0.999 * 0.999);
  EXPECT_NEAR(p[0], before * 0.999 - 0.1 * m_hat / (std::sqrt(v_hat) + 1e-8), 1e-9);
}

// Worked out by hand. Row {4, 1, 0.3}: scale 4/448, codes of 448, 112 and 33.6, the last between 32
// and 36: 32. Weights of features 7 and 3.5 and so on likewise, by row forward, by column backward.
TEST(Fp8ReferenceTest, RowsAndChannelsHaveAScaleEach) {
  const auto backend = NewFp8ReferenceBackend(DType::kF64);
  Tensor x = {4, 1, 0.3, 0, 0, 0}, w = {7, 0, 7, 0.1, 3.5, 3.5}, y(4);
  const auto linear = *backend->Pack(View(w, {2, 3}));
  backend->LinearGroupForward({linear.get()}, {}, View(x, {2, 3}), {}, {View(y, {2, 2})},
                              ProductPath::kBatch);
  const double x2 = 32 * 4.0 / 448;
  // 0.1 of 3.5: 12.8 of 448, between 12 and 13: 13.
  const double w10 = 13 * 3.5 / 448;
  EXPECT_NEAR(y[0], 4 * 7 + x2 * 7, 1e-5);
  EXPECT_NEAR(y[1], 4 * w10 + 1 * 3.5 + x2 * 3.5, 1e-5);
  EXPECT_EQ(y[2], 0);
  EXPECT_EQ(y[3], 0);

  Tensor dy = {1, 1, 0, -2}, dx(6);
  backend->LinearGroupBackward({linear.get()}, {}, View(x, {2, 3}), {}, {View(dy, {2, 2})}, {},
                               View(dx, {2, 3}));
  // 0.1 of 7: 6.4 of 448, between 6 and 6.5: 6.5.
  const double by_column = 6.5 * 7 / 448;
  EXPECT_NEAR(dx[0], 7 + by_column, 1e-5);
  EXPECT_NEAR(dx[1], 3.5, 1e-5);
  EXPECT_NEAR(dx[2], 7 + 3.5, 1e-5);
  EXPECT_NEAR(dx[3], -2 * by_column, 1e-5);
  EXPECT_EQ(backend->numerics_class(), "reference/F64/fp8");
}

}  // namespace
}  // namespace deltaworks::trainer

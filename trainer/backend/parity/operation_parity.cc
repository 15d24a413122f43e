// Every operation but the linears against the f64 reference.
//
// Tolerances: operations on single elements round once to the output's type and a few times in f32
// (8 * 2^-24 with the vector functions' error); a sum of n terms adds n * 2^-24 of the largest
// result.

#include <algorithm>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/backend/parity/backends.h"
#include "trainer/backend/parity/twin.h"

namespace deltaworks::trainer {
namespace {

constexpr double kF32Steps = 8 * 0x1p-24;

class OperationParityTest : public ::testing::TestWithParam<TestedBackend> {
 protected:
  Twin Random(DType type, std::vector<int64_t> shape, double deviation = 1) {
    Twin twin(*backend_, type, std::move(shape));
    twin.FillRandom(random_, deviation);
    return twin;
  }
  Twin Compute(std::vector<int64_t> shape, double deviation = 1) {
    return Random(backend_->compute_type(), std::move(shape), deviation);
  }
  Twin Wide(std::vector<int64_t> shape, double deviation = 1) {
    return Random(DType::kF32, std::move(shape), deviation);
  }
  Twin ComputeOut(std::vector<int64_t> shape) {
    return Twin(*backend_, backend_->compute_type(), std::move(shape));
  }
  Twin WideOut(std::vector<int64_t> shape) {
    return Twin(*backend_, DType::kF32, std::move(shape));
  }
  Twin Integers(const std::vector<int32_t>& values) {
    Twin twin(*backend_, DType::kI32, {static_cast<int64_t>(values.size())});
    std::copy(values.begin(), values.end(), twin.test.as<int32_t>());
    return twin;
  }
  Twin RandomIntegers(int64_t count, int32_t end) {
    std::vector<int32_t> values(count);
    for (int32_t& value : values) value = static_cast<int32_t>(random_() % end);
    return Integers(values);
  }

  // One rounding to the compute type.
  double u() const { return RoundOff(backend_->compute_type()); }

  std::unique_ptr<Backend> backend_ = GetParam().make(/*threads=*/2);
  std::unique_ptr<Backend> reference_ = NewReferenceBackend(DType::kF64);
  std::mt19937_64 random_{17};
};

INSTANTIATE_TEST_SUITE_P(Backends, OperationParityTest, AllBackends(), BackendName);

constexpr int64_t kRows[] = {1, 2, 31, 33, 127, 128, 129, 300};
constexpr int64_t kWidths[] = {1, 16, 33, 64, 576};

TEST_P(OperationParityTest, Embed) {
  for (const int64_t width : kWidths) {
    Twin table = Compute({50, width});
    for (const int64_t rows : kRows) {
      Twin ids = RandomIntegers(rows, 50);
      Twin out = WideOut({rows, width});
      backend_->Embed(**backend_->PackTable(table.test), ids.test, out.test);
      reference_->Embed(**reference_->PackTable(table.reference), ids.test, out.reference);
      ExpectClose(out, {}, "out");
    }
  }
}

TEST_P(OperationParityTest, RmsNorm) {
  for (const int64_t width : kWidths) {
    for (const int64_t rows : kRows) {
      Twin x = Wide({rows, width}, 3);
      Twin weight = Wide({width});
      Twin y = ComputeOut({rows, width});
      Twin rstd = WideOut({rows});
      // The weight is f32 on both sides.
      backend_->RmsNormForward(x.test, weight.test, 1e-5, y.test, rstd.test);
      reference_->RmsNormForward(x.reference, weight.test, 1e-5, y.reference, rstd.reference);
      const double sum = (width + 8) * 0x1p-24;
      ExpectClose(rstd, {sum, 0}, "rstd");
      ExpectClose(y, {u() + sum, 0}, "y");

      Twin dy = Compute({rows, width});
      Twin dx = Wide({rows, width});
      backend_->RmsNormBackward(x.test, weight.test, rstd.test, dy.test, dx.test);
      reference_->RmsNormBackward(x.reference, weight.test, rstd.reference, dy.reference,
                                  dx.reference);
      ExpectClose(dx, {kF32Steps, 4 * sum}, "dx");
    }
  }
}

TEST_P(OperationParityTest, AddResidualAndRound) {
  for (const int64_t width : kWidths) {
    for (const int64_t rows : kRows) {
      Twin x = Wide({rows, width});
      Twin y = Compute({rows, width});
      Twin sum = WideOut({rows, width});
      backend_->AddResidual(x.test, y.test, sum.test);
      reference_->AddResidual(x.reference, y.reference, sum.reference);
      ExpectClose(sum, {0x1p-24, 0}, "sum");
      backend_->AddResidual(x.test, y.test, x.test);  // In place.
      EXPECT_EQ(x.Bytes(), sum.Bytes());
      Twin rounded = ComputeOut({rows, width});
      backend_->Round(sum.test, rounded.test);
      for (int64_t i = 0; i < sum.test.elements(); ++i) {
        const float value = sum.test.as<float>()[i];
        const bool bf16 = backend_->compute_type() == DType::kBF16;
        ASSERT_EQ(rounded.At(i), bf16 ? static_cast<float>(BFloat16(value)) : value);
      }
    }
  }
}

// Rounding to bf16 in the kernels is BFloat16(float), bit for bit: denormals, halves, NaN,
// infinity. f32 does not round and keeps every bit.
TEST_P(OperationParityTest, RoundingIsThatOfBFloat16ForEveryKindOfNumber) {
  std::vector<uint32_t> words = {0x00000000, 0x80000000, 0x00000001, 0x00008000, 0x00008001,
                                 0x00018000, 0x007fffff, 0x7f800000, 0xff800000, 0x7f800001,
                                 0x7fffffff, 0xffc00000, 0x7f7fffff, 0x3f808000, 0x3f818000};
  for (int i = 0; i < 100000; ++i) words.push_back(static_cast<uint32_t>(random_()));
  const int64_t count = words.size();
  Twin x = WideOut({count});
  std::memcpy(x.test.data, words.data(), count * 4);
  Twin y = ComputeOut({count});
  backend_->Round(x.test, y.test);
  if (backend_->compute_type() == DType::kF32) {
    EXPECT_EQ(y.Bytes(), x.Bytes());
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    ASSERT_EQ(y.test.as<BFloat16>()[i].bits, BFloat16(x.test.as<float>()[i]).bits)
        << std::hex << words[i];
  }
}

TEST_P(OperationParityTest, Rope) {
  for (const int64_t half : {1, 5, 16, 32, 40}) {
    Twin angles_cosine = Wide({100, half}, 0.5);
    Twin angles_sine = Wide({100, half}, 0.5);
    for (const int64_t rows : kRows) {
      for (const bool inverse : {false, true}) {
        Twin x = Compute({rows, 3 * 2 * half});
        Twin positions = RandomIntegers(rows, 100);
        backend_->Rope(x.test, 3, positions.test, angles_cosine.test, angles_sine.test, inverse);
        reference_->Rope(x.reference, 3, positions.test, angles_cosine.reference,
                         angles_sine.reference, inverse);
        ExpectClose(x, {u(), kF32Steps}, "x");
      }
    }
  }
}

TEST_P(OperationParityTest, Swiglu) {
  for (const int64_t width : kWidths) {
    for (const int64_t rows : kRows) {
      Twin gate = Compute({rows, width}, 4);
      Twin up = Compute({rows, width});
      Twin dout = Compute({rows, width});
      Twin out = ComputeOut({rows, width});
      Twin dgate = ComputeOut({rows, width});
      Twin dup = ComputeOut({rows, width});
      backend_->SwigluForward(gate.test, up.test, out.test);
      reference_->SwigluForward(gate.reference, up.reference, out.reference);
      backend_->SwigluBackward(gate.test, up.test, dout.test, dgate.test, dup.test);
      reference_->SwigluBackward(gate.reference, up.reference, dout.reference, dgate.reference,
                                 dup.reference);
      ExpectClose(out, {u() + kF32Steps, 0}, "out");
      // silu' has a zero, near which its two terms cancel.
      ExpectClose(dgate, {u() + kF32Steps, kF32Steps}, "dgate");
      ExpectClose(dup, {u() + kF32Steps, 0}, "dup");
    }
  }
}

TEST_P(OperationParityTest, GatherAndScatterRows) {
  for (const int64_t rows : {1, 33, 129}) {
    Twin x = Compute({rows, 33});
    std::vector<int32_t> order(rows);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    order.resize((rows + 1) / 2);
    Twin chosen = Integers(order);
    const int64_t count = order.size();
    Twin gathered = ComputeOut({count, 33});
    backend_->GatherRows(x.test, chosen.test, gathered.test);
    reference_->GatherRows(x.reference, chosen.test, gathered.reference);
    ExpectClose(gathered, {}, "gathered");
    Twin scattered = Compute({rows, 33});  // Rows that are not given keep what they had.
    backend_->ScatterRows(gathered.test, chosen.test, scattered.test);
    reference_->ScatterRows(gathered.reference, chosen.test, scattered.reference);
    ExpectClose(scattered, {}, "scattered");
  }
}

TEST_P(OperationParityTest, FillAndCopy) {
  Twin x = WideOut({33, 7});
  backend_->Fill(x.test, 1.5);
  reference_->Fill(x.reference, 1.5);
  ExpectClose(x, {}, "wide");
  Twin y = ComputeOut({33, 7});
  backend_->Fill(y.test, -3);
  reference_->Fill(y.reference, -3);
  ExpectClose(y, {}, "compute");
  Twin random = Compute({33, 7});
  backend_->Copy(random.test, y.test);
  EXPECT_EQ(y.Bytes(), random.Bytes());
}

struct AttentionCase {
  AttentionShape shape;
  std::vector<AttentionSpan> spans;
  int64_t queries;
  int64_t keys;
};

AttentionShape Heads(int64_t query_heads, int64_t kv_heads, int64_t head_dim, bool causal = true) {
  return {query_heads, kv_heads, head_dim, static_cast<float>(1 / std::sqrt(head_dim)), causal};
}

std::vector<AttentionCase> AttentionCases() {
  std::vector<AttentionCase> cases;
  for (const int64_t rows : kRows) {
    cases.push_back({Heads(2, 1, 64), {{0, rows, 0, rows}}, rows, rows});
  }
  for (const int64_t head_dim : {1, 16, 20, 33, 80, 128, 256}) {
    cases.push_back({Heads(3, 3, head_dim), {{0, 70, 0, 70}}, 70, 70});
  }
  // Packed documents with rows of no span between them.
  cases.push_back(
      {Heads(9, 3, 64), {{0, 31, 0, 31}, {31, 32, 31, 32}, {40, 169, 40, 169}}, 180, 180});
  // A cache of keys: the queries are the last ones.
  cases.push_back({Heads(4, 2, 64), {{0, 1, 0, 200}, {1, 2, 200, 217}, {2, 9, 217, 300}}, 9, 300});
  cases.push_back({Heads(4, 1, 64, false), {{0, 33, 0, 65}, {33, 40, 65, 66}}, 40, 66});
  return cases;
}

TEST_P(OperationParityTest, Attention) {
  for (const AttentionCase& test : AttentionCases()) {
    const AttentionShape& shape = test.shape;
    SCOPED_TRACE(ShapeText({test.queries, test.keys, shape.query_heads, shape.head_dim}));
    Twin q = Compute({test.queries, shape.query_heads * shape.head_dim});
    Twin k = Compute({test.keys, shape.kv_heads * shape.head_dim});
    Twin v = Compute({test.keys, shape.kv_heads * shape.head_dim});
    Twin dout = Compute({test.queries, shape.query_heads * shape.head_dim});
    // Rows of no span keep what is there: start from the same numbers.
    Twin out = Compute({test.queries, shape.query_heads * shape.head_dim});
    Twin lse = Wide({test.queries, shape.query_heads});
    Twin dq = Compute(q.test.shape), dk = Compute(k.test.shape), dv = Compute(v.test.shape);
    reference_->AttentionForward(shape, test.spans, q.reference, k.reference, v.reference,
                                 out.reference, lse.reference, ProductPath::kBatch);
    // Scores are sums over head_dim, off by that many steps; so is log p, and p relatively. Sums of
    // p over the keys are of positive numbers.
    const double steps = (2 * shape.head_dim + test.keys) * 0x1p-24;
    // Rounded probabilities are each off by u, and their products with values add up to at most u
    // of the largest.
    const double rounded = GetParam().rounds_probabilities ? u() : 0;
    for (const ProductPath path : {ProductPath::kDecode, ProductPath::kBatch}) {
      backend_->AttentionForward(shape, test.spans, q.test, k.test, v.test, out.test, lse.test,
                                 path);
      ExpectClose(out, {u() + steps, 4 * steps + rounded}, "out");
      ExpectClose(lse, {steps, steps}, "lse");
    }
    backend_->AttentionBackward(shape, test.spans, q.test, k.test, v.test, out.test, lse.test,
                                dout.test, dq.test, dk.test, dv.test);
    reference_->AttentionBackward(shape, test.spans, q.reference, k.reference, v.reference,
                                  out.reference, lse.reference, dout.reference, dq.reference,
                                  dk.reference, dv.reference);
    // delta is computed from the rounded output: off by u of dout . out, about sqrt(head_dim) terms
    // of size 1, which the scale takes back. With one key the true gradient is 0.
    const Tolerance of_scores = {u() + steps, 4 * steps + 4 * u() + rounded, 8 * u() + steps};
    ExpectClose(dq, of_scores, "dq");
    ExpectClose(dk, of_scores, "dk");
    ExpectClose(dv, {u() + steps, 4 * steps + rounded}, "dv");
  }
}

TEST_P(OperationParityTest, LargeScoresDoNotOverflow) {
  const AttentionShape shape = Heads(1, 1, 16);
  Twin q = Compute({70, 16}, 30), k = Compute({70, 16}, 30), v = Compute({70, 16});
  Twin out = ComputeOut({70, 16});
  Twin lse = WideOut({70, 1});
  backend_->AttentionForward(shape, {{0, 70, 0, 70}}, q.test, k.test, v.test, out.test, lse.test,
                             ProductPath::kBatch);
  reference_->AttentionForward(shape, {{0, 70, 0, 70}}, q.reference, k.reference, v.reference,
                               out.reference, lse.reference, ProductPath::kBatch);
  // Scores up to about 4,000 in f32 are off by 16 * 4000 * 2^-24, and p by as much relatively.
  ExpectClose(out, {u() + 0.004, 0.004}, "out");
  ExpectClose(lse, {kF32Steps, 16 * 0x1p-24}, "lse");
}

TEST_P(OperationParityTest, CrossEntropy) {
  for (const auto& [rows, d, vocabulary] :
       std::vector<std::tuple<int64_t, int64_t, int64_t>>{{1, 16, 2},
                                                          {2, 33, 33},
                                                          {31, 64, 300},
                                                          {129, 64, 100},
                                                          {300, 33, 257},
                                                          {33, 576, 4500},
                                                          // More than one tile of rows.
                                                          {270, 16, 49152}}) {
    SCOPED_TRACE(ShapeText({rows, d, vocabulary}));
    Twin x = Compute({rows, d});
    Twin weight = Compute({vocabulary, d}, 2 / std::sqrt(d));
    Twin labels = RandomIntegers(rows, vocabulary);
    Twin weights = Wide({rows});
    Twin losses = WideOut({rows}), losses_only = WideOut({rows});
    Twin dx = ComputeOut({rows, d});
    const auto test = *backend_->PackTable(weight.test);
    const auto reference = *reference_->PackTable(weight.reference);
    backend_->CrossEntropy(*test, x.test, labels.test, weights.test, losses.test, dx.test);
    backend_->CrossEntropy(*test, x.test, labels.test, weights.test, losses_only.test, {});
    reference_->CrossEntropy(*reference, x.reference, labels.test, weights.reference,
                             losses.reference, dx.reference);
    const double steps = (d + 64) * 0x1p-24;
    ExpectClose(losses, {steps, steps}, "losses");
    EXPECT_EQ(losses.Bytes(), losses_only.Bytes());
    // Gradients of logits are rounded, and are sums over the vocabulary.
    ExpectClose(dx, {u(), 4 * u() + (d + vocabulary) * 0x1p-24}, "dx");
  }
}

// Exactly: nothing is rounded. Ties, NaN and -inf are where a largest one is easily another.
TEST_P(OperationParityTest, ArgMax) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const int64_t columns : {1, 7, 33, 1025, 5000}) {
    constexpr int64_t kRows = 7;
    Twin x = Wide({kRows, columns});
    const auto set = [&](int64_t row, int64_t column, float value) {
      if (column < columns) x.Set(row * columns + column, value);
    };
    for (int64_t i = 0; i < columns; ++i) {
      set(1, i, nan);
      set(2, i, i % 3 == 0 ? nan : -infinity);
      set(3, i, i % 2 == 0 ? 0.0f : -0.0f);
    }
    for (const int64_t i : {3, 5, 31, 1024, 4999}) set(4, i, 100);
    set(5, columns - 1, infinity);
    for (int64_t i = 0; i + 1 < columns; ++i) set(6, i, nan);
    Twin places = Integers(std::vector<int32_t>(kRows, -1));
    Twin want = Integers(std::vector<int32_t>(kRows, -1));
    backend_->ArgMax(x.test, places.test);
    reference_->ArgMax(x.reference, want.test);
    for (int64_t row = 0; row < kRows; ++row) {
      EXPECT_EQ(places.test.as<int32_t>()[row], want.test.as<int32_t>()[row])
          << row << " of " << columns;
    }
    EXPECT_EQ(want.test.as<int32_t>()[1], 0);
    EXPECT_EQ(want.test.as<int32_t>()[2], columns > 1 ? 1 : 0);
    EXPECT_EQ(want.test.as<int32_t>()[3], 0);
    EXPECT_EQ(want.test.as<int32_t>()[6], columns - 1);
  }
}

TEST_P(OperationParityTest, Logits) {
  for (const ProductPath path : {ProductPath::kBatch, ProductPath::kDecode}) {
    for (const int64_t rows : {1, 2, 16, 33, 129}) {
      Twin x = Compute({rows, 77});
      Twin weight = Compute({333, 77}, 0.1);
      Twin logits = WideOut({rows, 333});
      const auto test = *backend_->PackTable(weight.test);
      const auto reference = *reference_->PackTable(weight.reference);
      backend_->Logits(*test, x.test, logits.test, path);
      reference_->Logits(*reference, x.reference, logits.reference, path);
      ExpectClose(logits, {0x1p-24, 77 * 0x1p-24}, "logits");
    }
  }
}

TEST_P(OperationParityTest, SumOfSquares) {
  for (const int64_t count : {1, 7, 33, 16384, 16385, 100001}) {
    Twin x = Wide({count});
    // f64 on both sides, in another order: count * 2^-53.
    EXPECT_NEAR(backend_->SumOfSquares(x.test), reference_->SumOfSquares(x.reference),
                reference_->SumOfSquares(x.reference) * count * 0x1p-53);
  }
}

TEST_P(OperationParityTest, AdamW) {
  for (const int64_t count : {1, 33, 20000}) {
    Twin parameter = Wide({count}), m = WideOut({count}), v = WideOut({count});
    for (Twin* moment : {&m, &v}) {
      backend_->Fill(moment->test, 0);
      reference_->Fill(moment->reference, 0);
    }
    for (int64_t step = 1; step <= 5; ++step) {
      AdamWSettings settings;
      settings.learning_rate = 1e-2;
      settings.weight_decay = 0.1;
      settings.step = step;
      settings.gradient_scale = 0.7;
      Twin gradient = Wide({count});
      backend_->AdamW(settings, gradient.test, parameter.test, m.test, v.test);
      reference_->AdamW(settings, gradient.reference, parameter.reference, m.reference,
                        v.reference);
    }
    // m may cancel, and then the update, of size learning_rate, is off relative to the largest m.
    ExpectClose(m, {5 * kF32Steps, 5 * kF32Steps}, "m");
    ExpectClose(v, {5 * kF32Steps, 0}, "v");
    ExpectClose(parameter, {5 * kF32Steps, 5 * kF32Steps}, "parameter");
  }
}

}  // namespace
}  // namespace deltaworks::trainer
